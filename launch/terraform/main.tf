# What stands while nothing runs: two buckets, an image repository, three service accounts, a schedule, three alerts.
# Variables come from launch/settings.env, the state's bucket from `init -backend-config`: see launch/README.md.
terraform {
  required_version = ">= 1.5"
  backend "gcs" {
    prefix = "embedding-jobs"
  }
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

# The same list as in launch/check.py. Everything below waits for all of them.
locals {
  services = [
    "artifactregistry", "cloudbuild", "cloudresourcemanager", "cloudscheduler", "compute", "dataflow", "iam",
    "logging", "monitoring", "storage",
  ]
}

resource "google_project_service" "used" {
  for_each           = toset(local.services)
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

# What the schedule starts every night: the template and bundles. A model that took over a worker must not be able
# to change it, so workers only read here; whoever builds a bundle or an image writes.
resource "google_storage_bucket" "models" {
  name                        = var.models_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = var.labels

  dynamic "encryption" {
    for_each = var.kms_key == "" ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  versioning {
    enabled = true
  }

  depends_on = [google_project_service.used, google_kms_crypto_key_iam_member.users]
}

# Soft delete would keep, and bill, everything that a job stages and removes.
resource "google_storage_bucket" "jobs" {
  name                        = var.jobs_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = var.labels

  dynamic "encryption" {
    for_each = var.kms_key == "" ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    condition {
      age            = 14
      matches_prefix = ["temp/"]
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.used, google_kms_crypto_key_iam_member.users]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "jobs"
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = var.kms_key == "" ? null : var.kms_key
  labels        = var.labels

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.used, google_kms_crypto_key_iam_member.users]
}

# Workers: run as Dataflow workers, read the image, the template and bundles, read and write the jobs' bucket, read
# the input. Nothing else.
resource "google_service_account" "worker" {
  account_id   = "embedding-worker"
  display_name = "Workers of embedding jobs"

  depends_on = [google_project_service.used]
}

resource "google_project_iam_member" "worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member

  # The role may create objects in every bucket of the project.
  condition {
    title      = "objects of the jobs' bucket only"
    expression = "resource.type != 'storage.googleapis.com/Object' || resource.name.startsWith('projects/_/buckets/${google_storage_bucket.jobs.name}/')"
  }

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "worker_models" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "worker" {
  bucket = google_storage_bucket.jobs.name
  role   = "roles/storage.objectAdmin"
  member = google_service_account.worker.member

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "worker_bucket" {
  bucket = google_storage_bucket.jobs.name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.worker.member

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "input" {
  bucket = split("/", var.input)[2]
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member

  depends_on = [google_project_service.used]
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member

  depends_on = [google_project_service.used]
}

# Cloud Build: reads the sources that gcloud puts below source/, writes the image and logs.
resource "google_service_account" "builder" {
  account_id   = "embedding-builder"
  display_name = "Builds the image of embedding jobs"

  depends_on = [google_project_service.used]
}

resource "google_project_iam_member" "builder" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.builder.member

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "builder" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder.member

  depends_on = [google_project_service.used]
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder.member

  depends_on = [google_project_service.used]
}

# The schedule: may start jobs, as those workers.
resource "google_service_account" "scheduler" {
  account_id   = "embedding-scheduler"
  display_name = "Starts embedding jobs"

  depends_on = [google_project_service.used]
}

resource "google_project_iam_member" "scheduler" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.scheduler.member

  depends_on = [google_project_service.used]
}

resource "google_storage_bucket_iam_member" "scheduler" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.scheduler.member

  depends_on = [google_project_service.used]
}

resource "google_service_account_iam_member" "scheduler" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.scheduler.member

  depends_on = [google_project_service.used]
}

resource "google_cloud_scheduler_job" "nightly" {
  count            = local.has_schedule ? 1 : 0
  name             = local.job_name
  region           = var.region
  schedule         = var.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "180s"
  paused           = var.paused

  retry_config {
    retry_count          = 1
    min_backoff_duration = "60s"
  }

  http_target {
    uri         = "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
    http_method = "POST"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode(local.launch))
    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [
    google_project_service.used,
    google_storage_bucket.models,
    google_project_iam_member.worker,
    google_service_account_iam_member.scheduler,
  ]
}

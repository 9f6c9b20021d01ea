# What stands while nothing runs: two buckets, an image repository, two service accounts, a schedule, two alerts.
# terraform -chdir=launch/terraform apply -var project=my-project -var image=... -var notify=me@example.com
terraform {
  required_version = ">= 1.5"
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

locals {
  template = "gs://${google_storage_bucket.models.name}/templates/embed.json"
  services = ["dataflow", "cloudscheduler", "artifactregistry", "cloudbuild", "storage", "monitoring"]
}

resource "google_project_service" "used" {
  for_each           = toset(local.services)
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

# What the schedule starts every night: the template and bundles. A model that took over a worker must not be able
# to change it, so workers only read here; whoever builds a bundle or an image writes.
resource "google_storage_bucket" "models" {
  name                        = "${var.project}-embedding-models"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }
}

# Soft delete would keep, and bill, everything that a job stages and removes.
resource "google_storage_bucket" "jobs" {
  name                        = "${var.project}-embedding-jobs"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

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
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "jobs"
  location      = var.region
  format        = "DOCKER"

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
}

# Workers: run as Dataflow workers, read the image, the template and bundles, read and write the jobs' bucket, read
# the input. Nothing else.
resource "google_service_account" "worker" {
  account_id   = "embedding-worker"
  display_name = "Workers of embedding jobs"
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
}

resource "google_storage_bucket_iam_member" "worker_models" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker" {
  bucket = google_storage_bucket.jobs.name
  role   = "roles/storage.objectAdmin"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_bucket" {
  bucket = google_storage_bucket.jobs.name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "input" {
  bucket = var.input_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}

# The schedule: may start jobs, as those workers.
resource "google_service_account" "scheduler" {
  account_id   = "embedding-scheduler"
  display_name = "Starts embedding jobs"
}

resource "google_project_iam_member" "scheduler" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.scheduler.member
}

resource "google_storage_bucket_iam_member" "scheduler" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.scheduler.member
}

resource "google_service_account_iam_member" "scheduler" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.scheduler.member
}

resource "google_cloud_scheduler_job" "nightly" {
  name             = "embed-nightly"
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
    body = base64encode(jsonencode({
      launchParameter = {
        jobName              = "embed-nightly"
        containerSpecGcsPath = local.template
        parameters           = merge(local.parameters, var.parameters)
        environment = {
          sdkContainerImage   = var.image
          maxWorkers          = var.max_workers
          serviceAccountEmail = google_service_account.worker.email
          tempLocation        = "gs://${google_storage_bucket.jobs.name}/temp"
          additionalUserLabels = {
            job = "embed-nightly"
          }
        }
      }
    }))
    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [google_project_service.used]
}

locals {
  parameters = {
    input    = var.input
    output   = "gs://${google_storage_bucket.jobs.name}/embeddings"
    run_id   = "night-{date}"
    previous = "latest"
    bundle   = var.bundle
  }
}

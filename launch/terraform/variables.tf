# Each one is TF_VAR_… in launch/settings.env, except those with a default.
variable "project" {
  description = "Google Cloud project"
  type        = string
}

variable "region" {
  description = "of buckets, images, jobs and schedule: one region, or traffic between them is billed"
  type        = string
}

variable "task" {
  description = "which job is scheduled: embed or classify"
  type        = string

  validation {
    condition     = contains(["embed", "classify"], var.task)
    error_message = "Expected embed or classify."
  }
}

variable "jobs_bucket" {
  description = "bucket that runs are written to"
  type        = string
}

variable "models_bucket" {
  description = "bucket of template and bundles, which workers only read"
  type        = string

  validation {
    condition     = var.models_bucket != ""
    error_message = "Name a bucket of its own: workers must not write what the schedule starts."
  }
}

variable "input" {
  description = "the pattern of a night's texts, with {date} or {date-1}"
  type        = string

  validation {
    condition     = can(regex("^gs://[^/]+/.+$", var.input))
    error_message = "Expected a pattern such as gs://my-texts/{date-1}/*.jsonl"
  }
}

variable "output" {
  description = "root of the runs, in jobs_bucket"
  type        = string
}

variable "image" {
  description = "as pushed by launch/cloudbuild.yaml, by its digest: a tag can be moved; empty: no schedule yet"
  type        = string

  validation {
    condition     = var.image == "" || can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest: REGION-docker.pkg.dev/PROJECT/jobs/embed@sha256:..."
  }
}

variable "bundle" {
  description = "model bundle with its digest, as `python -m model_bundle push` prints it; empty: no schedule yet"
  type        = string

  validation {
    condition     = var.bundle == "" || can(regex("^(gs://|/).+@sha256:[0-9a-f]{64}$", var.bundle))
    error_message = "Name the bundle with its digest: gs://.../model_bundles/DIGEST@sha256:DIGEST"
  }
}

variable "notify" {
  description = "address that alerts go to"
  type        = string
}

variable "max_workers" {
  description = "machines at most: bounds the bill"
  type        = number
}

variable "kms_key" {
  description = "customer-managed key for buckets, images and the jobs' temporary data; empty: Google's"
  type        = string
}

variable "subnetwork" {
  description = "regions/REGION/subnetworks/NAME of the workers; empty: default"
  type        = string
}

variable "private_workers" {
  description = "workers without public addresses; their subnetwork needs Private Google Access"
  type        = bool
}

variable "paused" {
  description = "keeps everything, starts nothing"
  type        = bool
}

variable "schedule" {
  description = "cron, UTC"
  type        = string
  default     = "30 2 * * *"
}

variable "parameters" {
  description = "further flags of the job"
  type        = map(string)
  default     = {}
}

variable "labels" {
  description = "billing labels of buckets, images and jobs"
  type        = map(string)
  default     = {}
}

variable "max_hours" {
  description = "a job that runs longer than this is reported"
  type        = number
  default     = 12
}

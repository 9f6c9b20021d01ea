variable "project" {
  description = "Google Cloud project"
  type        = string
}

variable "region" {
  description = "of bucket, image, jobs and schedule: one region, or traffic between them is billed"
  type        = string
  default     = "us-central1"
}

variable "image" {
  description = "as pushed by launch/cloudbuild.yaml, by its digest: a tag can be moved"
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest: REGION-docker.pkg.dev/PROJECT/jobs/embed@sha256:..."
  }
}

variable "bundle" {
  description = "the model bundle with its digest, as `python -m model_bundle push` prints it"
  type        = string

  validation {
    condition     = can(regex("^(gs://|/).+@sha256:[0-9a-f]{64}$", var.bundle))
    error_message = "Name the bundle with its digest: gs://.../model_bundles/DIGEST@sha256:DIGEST"
  }
}

variable "input_bucket" {
  description = "the bucket that texts are read from"
  type        = string
}

variable "input" {
  description = "the pattern of a night's texts, with {date} or {date-1}"
  type        = string
}

variable "schedule" {
  description = "cron"
  type        = string
  default     = "30 2 * * *"
}

variable "max_workers" {
  description = "machines at most: bounds the bill"
  type        = number
  default     = 10
}

variable "parameters" {
  description = "further flags of the job"
  type        = map(string)
  default     = {}
}

variable "notify" {
  description = "address that alerts go to"
  type        = string
}

variable "paused" {
  description = "keeps everything, starts nothing"
  type        = bool
  default     = false
}

output "bucket" {
  value = google_storage_bucket.jobs.name
}

output "models_bucket" {
  description = "for python -m model_bundle push DIR gs://BUCKET/model_bundles"
  value       = google_storage_bucket.models.name
}

output "template" {
  description = "for launch/build_template.py --template"
  value       = local.template
}

output "worker_account" {
  value = google_service_account.worker.email
}

output "scheduler_account" {
  value = google_service_account.scheduler.email
}

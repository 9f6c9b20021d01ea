output "bucket" {
  value = google_storage_bucket.jobs.name
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

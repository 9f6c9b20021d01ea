# Each alert has a runbook of the same name in docs/how-to/operating.md.
locals {
  runbook = "https://github.com/beam-embedding-jobs/beam-embedding-jobs/blob/main/docs/how-to/operating.md"
}

resource "google_monitoring_notification_channel" "mail" {
  display_name = "Embedding jobs"
  type         = "email"
  labels       = { email_address = var.notify }

  depends_on = [google_project_service.used]
}

resource "google_monitoring_alert_policy" "failed" {
  display_name          = "Job failed: ${local.job_name}"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.mail.id]
  user_labels           = var.labels

  conditions {
    display_name = "is_failed"
    condition_threshold {
      filter          = "resource.type = \"dataflow_job\" AND metric.type = \"dataflow.googleapis.com/job/is_failed\" AND resource.labels.job_name = \"${local.job_name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${local.runbook}#job-failed"
  }

  depends_on = [google_project_service.used]
}

# A hanging job costs its machines until it is cancelled.
resource "google_monitoring_alert_policy" "long" {
  display_name          = "Job runs for ${var.max_hours} hours: ${local.job_name}"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.mail.id]
  user_labels           = var.labels

  conditions {
    display_name = "elapsed_time"
    condition_threshold {
      filter          = "resource.type = \"dataflow_job\" AND metric.type = \"dataflow.googleapis.com/job/elapsed_time\" AND resource.labels.job_name = \"${local.job_name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.max_hours * 3600
      duration        = "0s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${local.runbook}#job-runs-too-long"
  }

  depends_on = [google_project_service.used]
}

# The commit logs one line for each good run. A night on which nothing was even started is found here alone.
resource "google_logging_metric" "finished" {
  name   = "embedding_runs_finished"
  filter = "resource.type = \"dataflow_step\" AND jsonPayload.message : \"Run finished:\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.used]
}

resource "google_monitoring_alert_policy" "old" {
  display_name          = "The last good embedding run is older than 30 hours"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.mail.id]
  user_labels           = var.labels

  conditions {
    display_name = "no run finished"
    condition_prometheus_query_language {
      query               = "absent_over_time(logging_googleapis_com:user_embedding_runs_finished{monitored_resource=\"dataflow_step\"}[30h])"
      evaluation_interval = "600s"
      duration            = "0s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${local.runbook}#no-run-finished"
  }

  depends_on = [google_project_service.used, google_logging_metric.finished]
}

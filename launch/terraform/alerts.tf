resource "google_monitoring_notification_channel" "mail" {
  display_name = "Embedding jobs"
  type         = "email"
  labels       = { email_address = var.notify }
}

resource "google_monitoring_alert_policy" "failed" {
  display_name          = "An embedding job failed"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.mail.id]

  conditions {
    display_name = "is_failed"
    condition_threshold {
      filter          = "resource.type = \"dataflow_job\" AND metric.type = \"dataflow.googleapis.com/job/is_failed\" AND resource.labels.job_name = \"embed-nightly\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}

# The commit says one line of each good run. A night on which nothing was even started is found here alone.
resource "google_logging_metric" "finished" {
  name   = "embedding_runs_finished"
  filter = "resource.type = \"dataflow_step\" AND jsonPayload.message : \"Run finished:\""
  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

resource "google_monitoring_alert_policy" "old" {
  display_name          = "The last good embedding run is older than 30 hours"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.mail.id]

  conditions {
    display_name = "no run finished"
    condition_prometheus_query_language {
      query               = "absent_over_time(logging_googleapis_com:user_embedding_runs_finished{monitored_resource=\"dataflow_step\"}[30h])"
      evaluation_interval = "600s"
      duration            = "0s"
    }
  }

  depends_on = [google_logging_metric.finished]
}

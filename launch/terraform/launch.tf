# What the schedule sends: the same as launch/submit.py does for the same settings, which a test compares.
# No resource is named here, so that `terraform console` shows it without a project.
locals {
  template     = "gs://${var.models_bucket}/templates/${var.task}.json"
  job_name     = "${var.task}-nightly"
  has_schedule = var.image != "" && var.bundle != ""

  parameters = {
    input    = var.input
    output   = var.output
    run_id   = "night-{date}"
    previous = "latest"
    bundle   = var.bundle
  }

  environment = merge(
    {
      sdkContainerImage    = var.image
      tempLocation         = "gs://${var.jobs_bucket}/temp"
      maxWorkers           = var.max_workers
      serviceAccountEmail  = "embedding-worker@${var.project}.iam.gserviceaccount.com"
      additionalUserLabels = merge({ job = local.job_name }, var.labels)
    },
    var.kms_key == "" ? {} : { kmsKeyName = var.kms_key },
    var.subnetwork == "" ? {} : { subnetwork = var.subnetwork },
    var.private_workers ? { ipConfiguration = "WORKER_IP_PRIVATE" } : {},
  )

  launch = {
    launchParameter = {
      jobName              = local.job_name
      containerSpecGcsPath = local.template
      parameters           = merge(local.parameters, var.parameters)
      environment          = local.environment
    }
  }
}

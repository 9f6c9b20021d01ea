# With var.kms_key, the services that store something may use the key; nobody else may.
data "google_project" "this" {
  count      = var.kms_key == "" ? 0 : 1
  depends_on = [google_project_service.used]
}

locals {
  number = one(data.google_project.this[*].number)
  key_users = var.kms_key == "" ? {} : {
    images   = "service-${local.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    jobs     = "service-${local.number}@dataflow-service-producer-prod.iam.gserviceaccount.com"
    machines = "service-${local.number}@compute-system.iam.gserviceaccount.com"
    storage  = "service-${local.number}@gs-project-accounts.iam.gserviceaccount.com"
  }
}

resource "google_kms_crypto_key_iam_member" "users" {
  for_each      = local.key_users
  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value}"

  depends_on = [google_project_service.used]
}

"""Checks the project against the settings, in the order of launch/README.md.

Prints a line for each check, and below one that fails the command that mends it. Changes nothing. Exit code
0 if everything is in place, else 1.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from grants import check_accounts, check_grants
from make_metadata import read_metadata
from project import Project, ProjectError
from settings import DEFAULT_PATH, read_settings

# The same list as in terraform/main.tf. Service Usage itself answers this check.
SERVICES = (
    *(
        "artifactregistry",
        "cloudbuild",
        "cloudresourcemanager",
        "cloudscheduler",
        "compute",
        "dataflow",
        "iam",
    ),
    *("logging", "monitoring", "storage"),
)
# What whoever follows the README needs, and the smallest role of Google's that has it.
RIGHTS = {
    "artifactregistry.repositories.create": "roles/artifactregistry.admin",
    "cloudbuild.builds.create": "roles/cloudbuild.builds.editor",
    "cloudscheduler.jobs.create": "roles/cloudscheduler.admin",
    "dataflow.jobs.create": "roles/dataflow.developer",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    "iam.serviceAccounts.create": "roles/iam.serviceAccountAdmin",
    "logging.logMetrics.create": "roles/logging.configWriter",
    "monitoring.alertPolicies.create": "roles/monitoring.alertPolicyEditor",
    "resourcemanager.projects.setIamPolicy": "roles/resourcemanager.projectIamAdmin",
    "serviceusage.services.enable": "roles/serviceusage.serviceUsageAdmin",
    "storage.buckets.create": "roles/storage.admin",
}
# vCPUs of the default machine, and which quota counts them.
_VCPUS, _QUOTA = 4, "C3_CPUS"


def check_services(project: Project) -> str:
    """Every service that the README uses is switched on."""
    name = project.values["PROJECT"]
    names = [("names", f"projects/{name}/services/{each}.googleapis.com") for each in SERVICES]
    found = project.get(
        "serviceusage",
        f"/v1/projects/{name}/services:batchGet?{urlencode(names)}",
        ProjectError(
            f"there is no project {name}, or you may not see it", "python launch/settings.py PROJECT=…"
        ),
    )
    states = {each["name"].rpartition("/")[2]: each["state"] for each in found["services"]}
    off = [each for each in SERVICES if states.get(f"{each}.googleapis.com") != "ENABLED"]
    if off:
        raise ProjectError(f"switched off: {', '.join(off)}", project.enable(*off))
    return f"{len(SERVICES)} services are on"


def check_rights(project: Project) -> str:
    """Whoever runs this may do what the README does."""
    name = project.values["PROJECT"]
    path = f"/v1/projects/{name}:testIamPermissions"
    found = project.get("cloudresourcemanager", path, body={"permissions": list(RIGHTS)})
    roles = [role for right, role in RIGHTS.items() if right not in found.get("permissions", [])]
    if roles:
        mend = [
            f"gcloud projects add-iam-policy-binding {name} --member user:YOU --role {role}" for role in roles
        ]
        raise ProjectError(f"your account lacks {', '.join(roles)}", "\n  ".join(mend))
    return f"{len(RIGHTS)} permissions"


def check_region(project: Project) -> str:
    """The region exists, and its quota has room for the workers."""
    region, machines = project.values["REGION"], int(project.values["MAX_WORKERS"])
    missing = ProjectError(f"there is no region {region}", "gcloud compute regions list")
    found = project.get("compute", f"{project.compute}/regions/{region}", missing)
    free = {quota["metric"]: quota["limit"] - quota["usage"] for quota in found.get("quotas", [])}
    needs = {_QUOTA: _VCPUS, "INSTANCES": 1}
    if project.values["PRIVATE_WORKERS"] != "true":
        needs["IN_USE_ADDRESSES"] = 1
    for metric, each in needs.items():
        fits = int(free.get(metric, machines * each) // each)
        if fits < machines:
            private = ", or PRIVATE_WORKERS=true" if metric == "IN_USE_ADDRESSES" else ""
            raise ProjectError(
                f"MAX_WORKERS={machines}, but the quota {metric} has room for {fits}",
                f"python launch/settings.py MAX_WORKERS={max(fits, 1)}{private}, or request more: "
                f"https://console.cloud.google.com/iam-admin/quotas?project={project.values['PROJECT']}",
            )
    return f"{region} has room for {machines} machines"


def check_network(project: Project) -> str:
    """Workers have a subnetwork, and without public addresses a way to Google's services."""
    name, region = project.values["PROJECT"], project.values["REGION"]
    subnetwork = project.values["SUBNETWORK"].rpartition("/")[2] or "default"
    missing = ProjectError(
        f"there is no subnetwork {subnetwork} in {region}",
        f"gcloud compute networks create default --subnet-mode auto --project {name}"
        if subnetwork == "default"
        else "python launch/settings.py SUBNETWORK=…",
    )
    found = project.get("compute", f"{project.compute}/regions/{region}/subnetworks/{subnetwork}", missing)
    if project.values["PRIVATE_WORKERS"] == "true" and not found.get("privateIpGoogleAccess"):
        raise ProjectError(
            f"PRIVATE_WORKERS=true, but {subnetwork} has no Private Google Access",
            f"gcloud compute networks subnets update {subnetwork} --region {region} --project {name} "
            "--enable-private-ip-google-access",
        )
    return subnetwork


def check_buckets(project: Project) -> str:
    """The buckets exist, in the region, and nothing that is deleted is kept and billed."""
    region = project.values["REGION"]
    for variable in ("INPUT", "STATE", "BUCKET", "MODELS"):
        name, change = project.bucket(variable), f"python launch/settings.py {variable}=…"
        create = (
            f"gcloud storage buckets create gs://{name} --project {project.values['PROJECT']} "
            f"--location {region} --uniform-bucket-level-access"
        )
        mend = {"INPUT": change, "STATE": create}.get(variable, project.apply)
        missing = ProjectError(f"{variable}: there is no bucket {name}, or you may not see it", mend)
        found = project.get("storage", f"/storage/v1/b/{name}", missing)
        place = found["location"].lower()
        if variable != "STATE" and not region.startswith({"eu": "europe"}.get(place, place)):
            raise ProjectError(
                f"{variable}: {name} is in {place}, workers in {region}: traffic is slow and billed",
                f"{change}, or REGION={place}",
            )
        if variable == "BUCKET" and int(found.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)):
            raise ProjectError(
                f"BUCKET: {name} keeps, and bills, what jobs stage and delete",
                f"gcloud storage buckets update gs://{name} --clear-soft-delete",
            )
    return "input, state, jobs and models"


def check_bundle(project: Project) -> str:
    """The bundle is where its name says, and is the one that the name pins."""
    bundle, mend = project.values["BUNDLE"], "step 2 of launch/README.md"
    if not bundle:
        raise ProjectError("BUNDLE is empty", mend)
    place, _, digest = bundle.partition("@sha256:")
    if place.startswith("/"):
        return f"{place}, in the image"
    missing = ProjectError(f"BUNDLE: there is no bundle in {place}", mend)
    found = hashlib.sha256(project.read_object(f"{place}/bundle.json", missing)).hexdigest()
    if found != digest:
        raise ProjectError(f"BUNDLE: {place} holds the bundle {found}, not the one of the digest", mend)
    return digest[:12]


def check_image(project: Project) -> str:
    """The image is in the registry."""
    image, mend = project.values["IMAGE"], "step 3 of launch/README.md"
    if not image:
        raise ProjectError("IMAGE is empty", mend)
    host, name, repository, path = image.split("/", 3)
    region = host.removesuffix("-docker.pkg.dev")
    place = f"/v1/projects/{name}/locations/{region}/repositories/{repository}/dockerImages/{path}"
    found = project.get("artifactregistry", place, ProjectError(f"IMAGE: there is no {image}", mend))
    return f"{int(found.get('imageSizeBytes', 0)) / 1e9:.1f} GB compressed"


def check_template(project: Project) -> str:
    """The template names that image, and this version's parameters."""
    task, template = project.values["TASK"], project.values["TEMPLATE"]
    mend = "python launch/build_template.py"
    found = json.loads(project.read_object(template, ProjectError(f"TEMPLATE: there is no {template}", mend)))
    if found.get("image") != project.values["IMAGE"]:
        raise ProjectError(f"TEMPLATE: {template} names the image {found.get('image')}, not IMAGE", mend)
    if found.get("metadata") != read_metadata(task):
        raise ProjectError(
            f"TEMPLATE: {template} has other parameters than launch/metadata/{task}.json", mend
        )
    return f"{len(found['metadata']['parameters'])} parameters"


def check_schedule(project: Project) -> str:
    """The schedule starts that template, with that image and bundle."""
    values = project.values
    job = f"{values['TASK']}-nightly"
    path = f"/v1/projects/{values['PROJECT']}/locations/{values['REGION']}/jobs/{job}"
    found = project.get("cloudscheduler", path, ProjectError(f"there is no schedule {job}", project.apply))
    launch = json.loads(base64.b64decode(found["httpTarget"]["body"]))["launchParameter"]
    is_now = (
        launch["containerSpecGcsPath"],
        launch["environment"].get("sdkContainerImage"),
        launch["parameters"].get("bundle"),
        launch["parameters"].get("input"),
    )
    for variable, now in zip(("TEMPLATE", "IMAGE", "BUNDLE", "INPUT"), is_now, strict=True):
        if now != values[variable]:
            raise ProjectError(f"the schedule {job} has {now} as {variable}", project.apply)
    return f"{job} is {found.get('state', 'ENABLED').lower()}: {found['schedule']} {found['timeZone']}"


CHECKS: dict[str, Callable[[Project], str]] = {
    "services": check_services,
    "rights": check_rights,
    "region": check_region,
    "network": check_network,
    "buckets": check_buckets,
    "accounts": check_accounts,
    "grants": check_grants,
    "bundle": check_bundle,
    "image": check_image,
    "template": check_template,
    "schedule": check_schedule,
}


def main() -> int:
    """Runs the checks and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--settings", type=Path, default=DEFAULT_PATH, metavar="FILE")
    parser.add_argument("--service_url", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    project = Project(read_settings(flags.settings).values, flags.service_url)
    print("settings   ok: complete and without contradictions")
    num_faults = 0
    for name, check in CHECKS.items():
        try:
            print(f"{name:<10} ok: {check(project)}")
        except ProjectError as error:
            num_faults += 1
            print(f"{name:<10} WRONG: {error}\n  {error.mend}")
    return 1 if num_faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

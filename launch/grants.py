"""Checks the service accounts, and that they have the roles that launch/terraform/main.tf grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from project import Project, ProjectError

_ACCOUNTS = ("worker", "builder", "scheduler")


@dataclass(frozen=True)
class Grant:
    """A role that an account has on something.

    ``on`` is ``project``, ``images``, ``worker`` or the variable that names a bucket.
    """

    account: str
    role: str
    on: str


# A test compares them with Terraform's.
GRANTS = (
    Grant("worker", "roles/dataflow.worker", "project"),
    Grant("worker", "roles/storage.objectViewer", "MODELS"),
    Grant("worker", "roles/storage.objectAdmin", "BUCKET"),
    Grant("worker", "roles/storage.legacyBucketReader", "BUCKET"),
    Grant("worker", "roles/storage.objectViewer", "INPUT"),
    Grant("worker", "roles/artifactregistry.reader", "images"),
    Grant("builder", "roles/logging.logWriter", "project"),
    Grant("builder", "roles/storage.objectViewer", "MODELS"),
    Grant("builder", "roles/artifactregistry.writer", "images"),
    Grant("scheduler", "roles/dataflow.developer", "project"),
    Grant("scheduler", "roles/storage.objectViewer", "MODELS"),
    Grant("scheduler", "roles/iam.serviceAccountUser", "worker"),
)


def check_accounts(project: Project) -> str:
    """The service accounts exist."""
    for account in _ACCOUNTS:
        address = _email(project, account)
        missing = ProjectError(f"{account.upper()}: there is no service account {address}", project.apply)
        project.get("iam", f"/v1/projects/{project.values['PROJECT']}/serviceAccounts/{address}", missing)
    return "workers, Cloud Build and scheduler"


def check_grants(project: Project) -> str:
    """The service accounts may do what they are for."""
    lacking = _missing_grants(project)
    if lacking:
        raise ProjectError("; ".join(lacking), project.apply)
    return f"{len(GRANTS)} roles"


def _email(project: Project, account: str) -> str:
    """Returns the address of an account; cloudbuild.yaml names the builder, the settings the others."""
    variable = account.upper()
    domain = f"{project.values['PROJECT']}.iam.gserviceaccount.com"
    return project.values.get(variable) or f"embedding-{account}@{domain}"


def _missing_grants(project: Project) -> list[str]:
    """Returns one phrase for each role that is not granted.

    Raises:
        ProjectError: the rights on something cannot be read.
    """
    held = {on: _bindings(_policy(project, on)) for on in dict.fromkeys(grant.on for grant in GRANTS)}
    return [
        f"{_email(project, grant.account)} lacks {grant.role} on {grant.on}"
        for grant in GRANTS
        if (grant.role, f"serviceAccount:{_email(project, grant.account)}") not in held[grant.on]
    ]


def _policy(project: Project, on: str) -> Any:
    name = project.values["PROJECT"]
    if on == "project":
        body = {"options": {"requestedPolicyVersion": 3}}  # older ones rename roles with a condition
        return project.get("cloudresourcemanager", f"/v1/projects/{name}:getIamPolicy", body=body)
    if on == "worker":
        path = f"/v1/projects/{name}/serviceAccounts/{_email(project, on)}:getIamPolicy"
        gone = ProjectError(f"WORKER: there is no service account {_email(project, on)}", project.apply)
        return project.get("iam", path, gone, body={})
    if on == "images":
        host, place, repository, _ = project.values["TAG"].split("/", 3)
        region = host.removesuffix("-docker.pkg.dev")
        path = f"/v1/projects/{place}/locations/{region}/repositories/{repository}:getIamPolicy"
        gone = ProjectError(f"TAG: there is no repository {repository} in {region}", project.apply)
        return project.get("artifactregistry", path, gone)
    bucket = project.bucket(on)
    gone = ProjectError(f"{on}: there is no bucket {bucket}, or you may not see it", project.apply)
    return project.get("storage", f"/storage/v1/b/{bucket}/iam", gone)


def _bindings(policy: Any) -> set[tuple[str, str]]:
    """Returns pairs of role and member."""
    return {(each["role"], member) for each in policy.get("bindings", []) for member in each["members"]}

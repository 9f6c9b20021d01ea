"""A project beside its jobs and objects: services, rights, quota, networks, accounts, images, schedules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.support.cloud.fake_storage import Answer, Request, failure


class FakeConsole:
    """A project that everything is right in, until a test changes an attribute.

    ``answers`` are the responses by schema, for a test that compares them with the services' descriptions.
    """

    def __init__(self, project: str = "my-project", region: str = "us-central1") -> None:
        self.project, self.region = project, region
        self.off: set[str] = set()
        self.denied: set[str] = set()
        self.quotas = {"C3_CPUS": 200.0, "INSTANCES": 100.0, "IN_USE_ADDRESSES": 100.0}
        self.subnetworks = {"default": True}
        self.accounts: set[str] = set()
        self.buckets: dict[str, str] = {}
        self.soft_delete: set[str] = set()
        self.images: set[str] = set()
        # Roles by what they are on: project, repository, account or bucket.
        self.grants: dict[str, set[tuple[str, str]]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.answers: list[tuple[str, str, Any]] = []
        here = r"/v1/projects/([^/]+)"
        place, compute = rf"{here}/locations/([^/]+)", r"/compute/v1/projects/([^/]+)/regions/([^/]+)"
        rights = "TestIamPermissionsResponse"
        self._routes: list[tuple[str, str, str, Callable[..., Any]]] = [
            (f"{here}/services:batchGet", "serviceusage.v1", "BatchGetServicesResponse", self._services),
            (f"{here}:testIamPermissions", "cloudresourcemanager.v1", rights, self._rights),
            (compute, "compute.v1", "Region", self._region),
            (f"{compute}/subnetworks/([^/]+)", "compute.v1", "Subnetwork", self._subnetwork),
            (r"/storage/v1/b/([^/]+)", "storage.v1", "Bucket", self._bucket),
            (r"/storage/v1/b/([^/]+)/iam", "storage.v1", "Policy", self._bucket_policy),
            (f"{here}:getIamPolicy", "cloudresourcemanager.v1", "Policy", self._project_policy),
            (f"{here}/serviceAccounts/([^/]+):getIamPolicy", "iam.v1", "Policy", self._policy),
            (
                f"{place}/repositories/([^/]+):getIamPolicy",
                "artifactregistry.v1",
                "Policy",
                self._images_policy,
            ),
            (f"{here}/serviceAccounts/([^/]+)", "iam.v1", "ServiceAccount", self._account),
            (
                f"{place}/repositories/([^/]+)/dockerImages/(.+)",
                "artifactregistry.v1",
                "DockerImage",
                self._image,
            ),
            (f"{place}/jobs(?:/([^/]+))?", "cloudscheduler.v1", "Job", self._schedule),
        ]

    def answer(self, request: Request) -> Answer | None:
        """Answers one request; None for what is not of these services, or of a bucket that is not listed."""
        for pattern, api, schema, respond in self._routes:
            match = re.fullmatch(pattern, unquote(request.path))
            if match is not None:
                if match[1] != self.project and not request.path.startswith("/storage"):
                    return failure(404, f"no such project: {match[1]}")
                found = respond(request, *match.groups()[1:] if match.lastindex else ())
                if found is None:
                    return failure(404, f"not found: {request.path}")
                self.answers.append((api, schema, found))
                return Answer(200, json.dumps(found).encode())
        return None

    def _services(self, request: Request) -> Any:
        names = parse_qs(request.query)["names"]
        states = ((name, name.rpartition("/")[2].partition(".")[0] in self.off) for name in names)
        return {"services": [{"name": n, "state": "DISABLED" if off else "ENABLED"} for n, off in states]}

    def _rights(self, request: Request) -> Any:
        return {"permissions": [p for p in json.loads(request.body)["permissions"] if p not in self.denied]}

    def _region(self, _: Request, region: str) -> Any:
        quotas = [{"metric": name, "limit": limit, "usage": 0.0} for name, limit in self.quotas.items()]
        return {"name": region, "status": "UP", "quotas": quotas} if region == self.region else None

    def _subnetwork(self, _: Request, region: str, name: str) -> Any:
        is_here = region == self.region and name in self.subnetworks
        return {"name": name, "privateIpGoogleAccess": self.subnetworks[name]} if is_here else None

    def _bucket(self, request: Request) -> Any:
        name = request.path.rpartition("/")[2]
        if name not in self.buckets:
            return None
        kept = "604800" if name in self.soft_delete else "0"
        place = self.buckets[name].upper()
        return {"name": name, "location": place, "softDeletePolicy": {"retentionDurationSeconds": kept}}

    def _bucket_policy(self, request: Request) -> Any:
        name = request.path.split("/")[-2]
        return self._policy(request, name) if name in self.buckets else None

    def _project_policy(self, request: Request) -> Any:
        policy = self._policy(request, "project")
        if json.loads(request.body).get("options", {}).get("requestedPolicyVersion") != 3:
            for binding in policy["bindings"]:
                if binding["role"] == "roles/dataflow.worker":  # it has a condition
                    binding["role"] += "_withcond_0123456789abcdef"
        return policy

    def _images_policy(self, request: Request, region: str, name: str) -> Any:
        return self._policy(request, name) if region == self.region else None

    def _policy(self, _: Request, on: str) -> Any:
        pairs = sorted(self.grants.get(on, set()))
        return {"bindings": [{"role": role, "members": [f"serviceAccount:{who}"]} for role, who in pairs]}

    def _account(self, _: Request, email: str) -> Any:
        return {"email": email} if email in self.accounts else None

    def _image(self, _: Request, region: str, repository: str, path: str) -> Any:
        uri = f"{region}-docker.pkg.dev/{self.project}/{repository}/{path}"
        return {"uri": uri, "imageSizeBytes": "1200000000"} if uri in self.images else None

    def _schedule(self, request: Request, region: str, name: str | None) -> Any:
        if region != self.region:
            return None
        if request.method == "GET":
            return self.schedules.get(str(name))
        job: dict[str, Any] = json.loads(request.body)
        name = job["name"].rpartition("/")[2]
        if request.method == "PATCH" and name not in self.schedules:
            return None
        self.schedules[name] = job
        return job

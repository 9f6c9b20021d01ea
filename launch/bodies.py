"""Request bodies for Google's services: template, launch and schedule, as plain JSON data."""

from __future__ import annotations

import argparse
import base64
import json
import re
from typing import Any

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")
# Fields of the launch environment that have a flag here. Flags of the job are given with --parameter.
_ENVIRONMENT = {
    "image": "sdkContainerImage",
    "temp_location": "tempLocation",
    "machine_type": "machineType",
    "launcher_machine_type": "launcherMachineType",
    "disk_size_gb": "diskSizeGb",
    "max_workers": "maxWorkers",
    "num_workers": "numWorkers",
    "service_account": "serviceAccountEmail",
    "network": "network",
    "subnetwork": "subnetwork",
    "kms_key": "kmsKeyName",
    "experiment": "additionalExperiments",
    "pipeline_option": "additionalPipelineOptions",
}


def template_spec(image: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns the specification file of a flex template."""
    return {"image": image, "sdkInfo": {"language": "PYTHON"}, "metadata": metadata}


def launch_body(flags: argparse.Namespace) -> dict[str, Any]:
    """Returns the body of a ``flexTemplates:launch`` request."""
    environment: dict[str, Any] = {
        field: getattr(flags, name)
        for name, field in _ENVIRONMENT.items()
        if getattr(flags, name) is not None
    }
    if flags.private_ip:
        environment["ipConfiguration"] = "WORKER_IP_PRIVATE"
    if flags.flexrs:
        environment["flexrsGoal"] = "FLEXRS_COST_OPTIMIZED"
    environment["additionalUserLabels"] = flags.labels
    return {
        "launchParameter": {
            "jobName": flags.job_name,
            "containerSpecGcsPath": flags.template,
            "parameters": flags.parameters,
            "environment": environment,
        }
    }


def launch_path(flags: argparse.Namespace) -> str:
    """Returns the URL path of a launch request."""
    return f"/v1b3/projects/{flags.project}/locations/{flags.region}/flexTemplates:launch"


def scheduler_job(flags: argparse.Namespace, dataflow_url: str) -> dict[str, Any]:
    """Returns the Cloud Scheduler job that launches the template; its body is base64."""
    body = json.dumps(launch_body(flags), sort_keys=True).encode()
    return {
        "name": f"projects/{flags.project}/locations/{flags.region}/jobs/{flags.job_name}",
        "description": "Starts the batch embedding job; see launch/README.md",
        "schedule": flags.schedule,
        "timeZone": flags.timezone,
        "attemptDeadline": "180s",
        "retryConfig": {"retryCount": 1, "minBackoffDuration": "60s"},
        "httpTarget": {
            "uri": f"{dataflow_url}{launch_path(flags)}",
            "httpMethod": "POST",
            "headers": {"Content-Type": "application/json"},
            "body": base64.b64encode(body).decode(),
            "oauthToken": {"serviceAccountEmail": flags.scheduler_account, "scope": _SCOPE},
        },
    }


def check_pins(image: str, parameters: dict[str, str]) -> None:
    """Checks that a schedule names image and bundle by digest: what is at a tag or a place may change."""
    for flag, place in (("--image ", image), ("--parameter bundle=", parameters.get("bundle", ""))):
        if not _PINNED.search(place):
            raise SystemExit(
                f"{flag}{place}: expected it with its digest, …@sha256:<64 hex digits>, so that every night "
                "starts the same. `python -m model_bundle push` prints that of a bundle."
            )

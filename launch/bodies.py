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
    "machine_type": "machineType",
    "max_workers": "maxWorkers",
    "num_workers": "numWorkers",
    "service_account": "serviceAccountEmail",
    "subnetwork": "subnetwork",
}


def add_place(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all scripts share."""
    parser.add_argument("--project", required=True, metavar="ID")
    parser.add_argument("--region", required=True, metavar="NAME", help="region of jobs, schedule and image")
    parser.add_argument("--template", required=True, metavar="gs://FILE", help="the template's specification")
    parser.add_argument("--print_only", action="store_true", help="print the request without sending it")


def add_launch(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a launch."""
    parser.add_argument(
        "--job_name",
        default="embed-nightly",
        metavar="NAME",
        help="fixed, so that a second job of that name is rejected",
    )
    parser.add_argument(
        "--image", required=True, metavar="IMAGE", help="container image of the workers: that of the template"
    )
    parser.add_argument("--temp_location", required=True, metavar="gs://DIR")
    parser.add_argument("--service_account", metavar="EMAIL", help="service account of the workers")
    parser.add_argument("--machine_type", metavar="TYPE", help="default: chosen from the bundle's size")
    parser.add_argument("--num_workers", type=int, metavar="N")
    parser.add_argument(
        "--max_workers", type=int, metavar="N", help="maximum number of machines, which bounds the cost"
    )
    parser.add_argument("--subnetwork", metavar="URL")
    parser.add_argument("--private_ip", action="store_true", help="use workers without public IP addresses")
    parser.add_argument(
        "--spot", action="store_true", help="use FlexRS: cheaper, may start up to six hours later"
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="K=V", help="billing label; may be repeated"
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="FLAG=VALUE",
        help="a flag of the job, without dashes: input=gs://…/{date-1}/*.jsonl; may be repeated",
    )


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
    environment["tempLocation"] = flags.temp_location
    if flags.private_ip:
        environment["ipConfiguration"] = "WORKER_IP_PRIVATE"
    if flags.spot:
        environment["flexrsGoal"] = "FLEXRS_COST_OPTIMIZED"
    if flags.label:
        environment["additionalUserLabels"] = pairs(flags.label, "--label")
    return {
        "launchParameter": {
            "jobName": flags.job_name,
            "containerSpecGcsPath": flags.template,
            "parameters": pairs(flags.parameter, "--parameter"),
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


def pairs(texts: list[str], flag: str) -> dict[str, str]:
    """Splits ``name=value`` texts; a value may contain further equals signs."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name.startswith("-"):
            raise SystemExit(f"{flag} {text}: expected NAME=VALUE, without dashes.")
        if name in found:
            raise SystemExit(f"{flag} {name} is given twice; expected one value per name.")
        found[name] = value
    return found

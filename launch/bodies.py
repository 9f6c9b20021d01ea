"""What Google's services are sent: template, launch and schedule, as plain JSON data."""

from __future__ import annotations

import argparse
import base64
import json
from typing import Any

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# Fields of the launch's environment that have a flag here; all others can be given with --parameter.
_ENVIRONMENT = {
    "image": "sdkContainerImage",
    "machine_type": "machineType",
    "max_workers": "maxWorkers",
    "num_workers": "numWorkers",
    "service_account": "serviceAccountEmail",
    "subnetwork": "subnetwork",
}


def add_place(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every script has."""
    parser.add_argument("--project", required=True, metavar="ID")
    parser.add_argument("--region", required=True, metavar="NAME", help="of jobs, schedule and image")
    parser.add_argument("--template", required=True, metavar="gs://FILE", help="the template's specification")
    parser.add_argument(
        "--print_only", action="store_true", help="print what would be sent, and send nothing"
    )


def add_launch(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a launch."""
    parser.add_argument(
        "--job_name", default="embed-nightly", metavar="NAME", help="fixed: a second job of it is refused"
    )
    parser.add_argument("--image", required=True, metavar="IMAGE", help="of the workers: the template's own")
    parser.add_argument("--temp_location", required=True, metavar="gs://DIR")
    parser.add_argument("--service_account", metavar="EMAIL", help="of the workers")
    parser.add_argument("--machine_type", metavar="TYPE", help="default: chosen from the bundle's size")
    parser.add_argument("--num_workers", type=int, metavar="N")
    parser.add_argument("--max_workers", type=int, metavar="N", help="bounds the bill: N machines at most")
    parser.add_argument("--subnetwork", metavar="URL")
    parser.add_argument("--private_ip", action="store_true", help="workers without public addresses")
    parser.add_argument("--spot", action="store_true", help="FlexRS: cheaper, may start up to six hours late")
    parser.add_argument(
        "--label", action="append", default=[], metavar="K=V", help="on the bill; repeat for more"
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="FLAG=VALUE",
        help="a flag of the job, without dashes: input=gs://…/{date-1}/*.jsonl; repeat for more",
    )


def template_spec(image: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns the specification that a flex template is."""
    return {"image": image, "sdkInfo": {"language": "PYTHON"}, "metadata": metadata}


def launch_body(flags: argparse.Namespace) -> dict[str, Any]:
    """Returns what ``flexTemplates:launch`` is sent."""
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
    """Returns where a launch is sent, below Dataflow's address."""
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


def pairs(texts: list[str], flag: str) -> dict[str, str]:
    """Splits ``name=value`` texts; a value may hold further equals signs."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name.startswith("-"):
            raise SystemExit(f"{flag} {text}: expected NAME=VALUE, without dashes.")
        if name in found:
            raise SystemExit(f"{flag} {name} is given twice; a launch has one value for each.")
        found[name] = value
    return found

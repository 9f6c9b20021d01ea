"""Flags of the scripts: their defaults are the settings, and they are checked before anything is sent."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from parameters import check_parameters
from settings import DEFAULT_PATH, FORMS, Settings, read_settings

# Flags whose default is a variable of the settings.
_FROM_SETTINGS = {
    "project": "PROJECT",
    "region": "REGION",
    "task": "TASK",
    "template": "TEMPLATE",
    "image": "IMAGE",
    "service_account": "WORKER",
    "scheduler_account": "SCHEDULER",
    "max_workers": "MAX_WORKERS",
    "kms_key": "KMS_KEY",
    "subnetwork": "SUBNETWORK",
}
# What a value of a launch must match, and what that is called. Source: the field descriptions of
# FlexTemplateRuntimeEnvironment, and the rules for labels.
_FORMS = {
    "job_name": (r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?", "lower-case letters, digits and '-'"),
    "temp_location": (r"gs://[^/]+(/.*)?", "gs://BUCKET/FOLDER"),
    "machine_type": (r"[a-z0-9]+(-[a-z0-9]+)+", "a type such as c3-standard-8"),
    "launcher_machine_type": (r"[a-z0-9]+(-[a-z0-9]+)+", "a type such as n2-standard-4"),
    "network": (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?|https://.+/networks/[^/]+", "the name of a network"),
}
# Labels that begin with goog are the service's own.
_LABEL = re.compile(r"(?!goog)[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")
# Flags of Beam that a field of the launch is for, so that one of both would win silently.
_OWN_OPTIONS = {
    "job_name": "job_name",
    "project": "project",
    "region": "region",
    "temp_location": "temp_location",
    "machine_type": "machine_type",
    "worker_machine_type": "machine_type",
    "disk_size_gb": "disk_size_gb",
    "num_workers": "num_workers",
    "max_num_workers": "max_workers",
    "network": "network",
    "subnetwork": "subnetwork",
    "no_use_public_ips": "private_ip",
    "dataflow_kms_key": "kms_key",
    "flexrs_goal": "flexrs",
    "service_account_email": "service_account",
    "sdk_container_image": "image",
    "labels": "label",
    "experiments": "experiment",
}
# The image, and the TensorFlow in it, are built for x86-64 only: docs/how-to/machines.md.
_ARM = re.compile(r"(t2a|c4a|n4a|a4x)-")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all scripts share."""
    parser.add_argument(
        "--settings", type=Path, default=DEFAULT_PATH, metavar="FILE", help="launch/settings.env"
    )
    parser.add_argument("--project", metavar="ID", help="default: PROJECT of the settings")
    parser.add_argument("--region", metavar="NAME", help="of jobs, schedule and image; default: REGION")
    parser.add_argument("--task", choices=["embed", "classify"], help="default: TASK")
    parser.add_argument("--template", metavar="gs://FILE", help="its specification; default: TEMPLATE")
    parser.add_argument("--image", metavar="IMAGE", help="of workers and template; default: IMAGE")
    parser.add_argument("--print_only", action="store_true", help="print the request without sending it")
    parser.add_argument("--service_url", help=argparse.SUPPRESS)


def add_launch(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a launch."""
    add = parser.add_argument
    add("--job_name", metavar="NAME", help="fixed, so that a second one is rejected; default: TASK-nightly")
    add("--temp_location", metavar="gs://DIR", help="default: temp in BUCKET")
    add("--service_account", metavar="EMAIL", help="of the workers; default: WORKER")
    add("--machine_type", metavar="TYPE", help="default: chosen from the bundle's size and the precision")
    add(
        "--launcher_machine_type",
        metavar="TYPE",
        help="of the machine that builds the job, and measures --max_cost",
    )
    add("--disk_size_gb", type=int, metavar="N", help="disk of a worker; default: from the bundle's size")
    add("--num_workers", type=int, metavar="N", help="machines to start with; autoscaling changes it")
    add("--max_workers", metavar="N", help="bounds the cost; default: MAX_WORKERS")
    add("--network", metavar="NAME", help="network of the workers, where --subnetwork does not name it")
    add("--subnetwork", metavar="URL", help="default: SUBNETWORK")
    add(
        "--private_ip", action="store_true", help="workers without public addresses; default: PRIVATE_WORKERS"
    )
    add("--kms_key", metavar="KEY", help="key for temporary data; default: KMS_KEY")
    add("--flexrs", action="store_true", help="cheaper: a mix with Spot machines, within six hours")
    add("--spot", action="store_true", help=argparse.SUPPRESS)
    add("--experiment", action="append", metavar="NAME", help="Dataflow experiment; may be repeated")
    add("--pipeline_option", action="append", metavar="NAME=VALUE", help="a flag of Beam; may be repeated")
    add("--label", action="append", default=[], metavar="K=V", help="billing label; may be repeated")
    add(
        "--parameter",
        action="append",
        default=[],
        metavar="FLAG=VALUE",
        help="a flag of the job, without dashes, such as text_column=body; replaces that of the settings; "
        "may be repeated",
    )


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the flags and fills those that are not given from the settings.

    Raises:
        SystemExit: one line for each setting that is wrong, or still empty.
    """
    flags = parser.parse_args()
    settings = read_settings(flags.settings)
    for name, variable in _FROM_SETTINGS.items():
        if not hasattr(flags, name):
            continue
        given, (form, expected) = getattr(flags, name), FORMS[variable]
        if given is not None and not re.fullmatch(form, given):
            raise SystemExit(f"--{name} {given}: expected {expected}.")
        setattr(flags, name, given or settings.values[variable] or None)
    needed = ["IMAGE"] if flags.image is None else []
    if hasattr(flags, "parameter"):
        parameters = pairs(flags.parameter, "--parameter")
        if "bundle" not in parameters and not settings.values["BUNDLE"]:
            needed.append("BUNDLE")
        if not needed:
            _fill_launch(flags, settings, parameters)
    if needed:
        raise SystemExit(settings.require(*needed))
    return flags


def _fill_launch(flags: argparse.Namespace, settings: Settings, given: dict[str, str]) -> None:
    values = settings.values
    flags.max_workers = int(flags.max_workers)
    flags.job_name = flags.job_name or f"{flags.task}-nightly"
    flags.temp_location = flags.temp_location or f"gs://{values['BUCKET']}/temp"
    flags.private_ip = flags.private_ip or values["PRIVATE_WORKERS"] == "true"
    flags.labels = {"job": flags.job_name} | pairs(flags.label, "--label")
    defaults = {
        "input": values["INPUT"],
        "output": values["OUTPUT"],
        "run_id": "night-{date}",
        "previous": "latest",
        "bundle": values["BUNDLE"],
    }
    flags.parameters = defaults | given
    check_launch(flags)


def check_launch(flags: argparse.Namespace) -> None:
    """Checks a launch before it is printed or sent.

    Raises:
        SystemExit: one line for each value that is wrong, or for a contradiction.
    """
    found = [
        f"--{name} {getattr(flags, name)}: expected {expected}."
        for name, (form, expected) in _FORMS.items()
        if getattr(flags, name) is not None and not re.fullmatch(form, getattr(flags, name))
    ]
    found += [
        f"--label {name}={value}: expected lower-case letters, digits, '_', '-', 63 each at most, not goog…."
        for name, value in flags.labels.items()
        if not _LABEL.fullmatch(f"{name}={value}")
    ]
    for name, least in (("num_workers", 1), ("disk_size_gb", 30)):
        value = getattr(flags, name)
        if value is not None and value < least:
            found.append(f"--{name} {value}: expected at least {least}.")
    for option in flags.pipeline_option or []:
        name = option.partition("=")[0]
        if name == "runner":
            found.append(f"--pipeline_option {option}: a template runs on Dataflow. Leave it out.")
        elif name in _OWN_OPTIONS:
            found.append(f"--pipeline_option {option}: use --{_OWN_OPTIONS[name]}.")
    found += [
        f"--experiment {name!r}: expected a name." for name in flags.experiment or [] if not name.strip()
    ]
    found += [why for why, is_wrong in _contradictions(flags).items() if is_wrong]
    if found:
        raise SystemExit("\n".join(found))
    check_parameters(flags.task, flags.parameters)


def _contradictions(flags: argparse.Namespace) -> dict[str, bool]:
    """Returns what may be wrong with flags that are fine alone, and whether it is."""
    region = (flags.subnetwork or "").rpartition("regions/")[2].split("/")[0]
    options = flags.pipeline_option or []
    return {
        (
            "--spot: Dataflow has no workers that are only Spot machines. --flexrs mixes them with others, "
            "and may start the job up to six hours later."
        ): flags.spot,
        (f"--num_workers {flags.num_workers} is more than --max_workers {flags.max_workers}."): (
            flags.num_workers or 0
        )
        > flags.max_workers,
        (f"--subnetwork {flags.subnetwork}: expected regions/{flags.region}/subnetworks/NAME."): bool(
            flags.subnetwork
        )
        and region != flags.region,
        **{
            (
                f"--{name} {getattr(flags, name)}: an Arm machine; the image is for x86-64 "
                "(docs/how-to/machines.md)."
            ): bool(_ARM.match(getattr(flags, name) or ""))
            for name in ("machine_type", "launcher_machine_type")
        },
        ("--flexrs: FlexRS has no GPUs. Leave out one of both."): flags.flexrs
        and any("worker_accelerator" in option for option in options),
        (f"--pipeline_option {options}: expected NAME=VALUE, without dashes."): any(
            not re.fullmatch(r"\w+(=.*)?", option) for option in options
        ),
    }


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

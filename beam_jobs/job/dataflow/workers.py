"""Settings of remote workers: machine, disk, processes, and a bundle that they can reach."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_jobs.base.units import count
from beam_jobs.errors import UsageError
from beam_jobs.job.console.console import Console
from beam_jobs.job.dataflow.prices import default_machines, describe_default, read_prices
from beam_jobs.job.flags.beam import is_in_process
from beam_jobs.pipeline.build import JobPlan
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.bundle.fetch import is_remote

_GB_PER_VCPU = {"standard": 4, "highmem": 8, "highcpu": 2}
_MACHINE = re.compile(r"^[a-z0-9]+-(?P<kind>standard|highmem|highcpu)-(?P<vcpus>\d+)$")
# Measured with bundles of 0.1 and 90 MB (launch/README.md): Python, Beam and TensorFlow without a model,
_PROCESS_BYTES = 900_000_000
# the peak of a model while it is frozen and warmed up, as a multiple of its files' size,
_MODEL_FACTOR = 5
# and one batch in flight per thread.
_LANE_BYTES = 200_000_000
# The rest is for system services, the runner's harness and the file cache.
_USABLE = 0.75
# Container image, logs and files being written; the bundle's own share is added to it.
_DISK_BYTES = 30_000_000_000
# Subfolder of --temp_location that is used without --bundle_store.
_BUNDLE_FOLDER = "model_bundles"
_ONE_PROCESS = "no_use_multiple_sdk_containers"
_MANY_PROCESSES = "use_multiple_sdk_containers"


def check_schedule(flags: argparse.Namespace) -> None:
    """Rejects flags that have no effect with the selected runner.

    Raises:
        UsageError: such a flag was given.
    """
    if is_in_process(flags.runner):
        for name in ("bundle_store", "bundle_in_image", "max_cost"):
            if getattr(flags, name):
                raise UsageError(
                    f"--{name} is for remote workers; --runner {flags.runner} works here. Leave it out."
                )


@dataclass(frozen=True)
class WorkerSettings:
    """What to request from Dataflow; ``num_processes`` is per machine.

    ``reason``: why this machine; empty if the user named it.
    """

    machine_type: str
    disk_gb: int
    min_ram_gb: int
    num_processes: int
    num_vcpus: int
    reason: str = ""

    @property
    def line(self) -> str:
        """The settings on one line, for the console."""
        shared = "one process for all cores" if self.num_processes == 1 else f"{self.num_processes} processes"
        machine = f"{self.machine_type} ({self.reason})" if self.reason else self.machine_type
        return f"{machine}, {self.disk_gb} GB disk, at least {self.min_ram_gb} GB memory, {shared}"


def prepare_workers(plan: JobPlan, flags: argparse.Namespace, options: Any, console: Console) -> JobPlan:
    """Fits remote workers to the bundle and puts it where they can load it.

    Args:
        plan: the resolved job.
        flags: the parsed flags.
        options: Beam's pipeline options; for Dataflow, settings left unset are filled in.
        console: where the chosen settings are printed.

    Returns:
        The plan for those workers.

    Raises:
        UsageError: there is no storage that workers share, or the model does not fit into the named machine.
    """
    if options.view_as(StandardOptions).runner.rpartition(".")[2].lower() == "dataflowrunner":
        settings = fit_workers(bundle_bytes(plan.encode), str(plan.encode.request.precision), options)
        if settings.num_processes > 1 and plan.encode.num_threads is None:
            plan = replace(plan, encode=replace(plan.encode, num_threads=1))
        apply_settings(settings, options)
        console.print("workers", f"workers: {settings.line}")
    return share_bundle(plan, flags, options, console)


def bundle_bytes(settings: EncodeSettings) -> int:
    """Returns the total size of a bundle's files in bytes."""
    return sum(file.size for file in settings.open_bundle().manifest.files)


def process_bytes(model_bytes: int, num_threads: int) -> int:
    """Estimates the peak memory of one process with the model, in bytes.

    >>> process_bytes(90_000_000, 1)
    1550000000
    """
    return _PROCESS_BYTES + _MODEL_FACTOR * model_bytes + _LANE_BYTES * num_threads


def fit_workers(model_bytes: int, precision: str, options: Any) -> WorkerSettings:
    """Chooses machine, disk and processes for a model of this size, computed in this precision.

    One process with all cores is the default: it holds the model once, and its threads keep every core busy
    (docs/decisions/lanes.md). Several are used on request (``--experiments
    use_multiple_sdk_containers``).

    Raises:
        UsageError: the model does not fit into the named machine.
    """
    worker, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    is_many = _MANY_PROCESSES in (debug.experiments or [])
    smallest = _smallest(model_bytes, precision, is_many=is_many)
    machine = worker.machine_type or smallest
    size = _size_of(machine)
    num_vcpus = size[0] if size else 4
    num_processes = num_vcpus if is_many else 1
    needed = num_processes * process_bytes(model_bytes, num_vcpus // num_processes)
    if size is not None and needed > _USABLE * size[1]:
        raise UsageError(
            f"--machine_type {machine}: the model needs about {needed / 1e9:.1f} GB in "
            f"{count(num_processes, 'process', 'processes')}, but only {_USABLE:.0%} of "
            f"{size[1] / 1e9:.0f} GB can be used. Choose a machine with more memory, such as "
            f"{smallest}" + (f", or leave out {_MANY_PROCESSES}." if is_many else ".")
        )
    disk = worker.disk_size_gb or -(-(_DISK_BYTES + 3 * model_bytes) // 1_000_000_000)
    reason = "" if worker.machine_type else describe_default(read_prices(None), precision)
    return WorkerSettings(machine, disk, -(-needed // 1_000_000_000), num_processes, num_vcpus, reason)


def apply_settings(settings: WorkerSettings, options: Any) -> None:
    """Fills in the options that the user left unset."""
    worker, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    worker.machine_type = settings.machine_type
    worker.disk_size_gb = settings.disk_gb
    if settings.num_processes == 1:
        debug.add_experiment(_ONE_PROCESS)
        if debug.number_of_worker_harness_threads is None:
            # One thread reads or writes while the other runs the model on all cores.
            debug.number_of_worker_harness_threads = 2
    standard = options.view_as(StandardOptions)
    if not standard.resource_hints:
        standard.resource_hints = [f"min_ram={settings.min_ram_gb}GB"]


def default_machine(model_bytes: int, precision: str) -> str:
    """Returns the machine type that is requested for a bundle of this size in this precision.

    >>> default_machine(90_000_000, "float32"), default_machine(5_000_000_000, "bfloat16")
    ('c3-standard-4', 'c3-highmem-8')
    """
    return _smallest(model_bytes, precision, is_many=False)


def _smallest(model_bytes: int, precision: str, *, is_many: bool) -> str:
    """Returns the smallest machine of the default family that holds the model, or its largest."""
    *machines, largest = default_machines(read_prices(None), precision)
    for machine in machines:
        size = _size_of(machine)
        assert size is not None
        num_processes = size[0] if is_many else 1
        if num_processes * process_bytes(model_bytes, size[0] // num_processes) <= _USABLE * size[1]:
            return machine
    return largest


def _size_of(machine: str) -> tuple[int, int] | None:
    """Returns a machine's vCPUs and memory in bytes; None if they do not follow from its name.

    >>> _size_of("c3-standard-4"), _size_of("a2-highgpu-1g")
    ((4, 16000000000), None)
    """
    match = _MACHINE.match(machine)
    if match is None:
        return None
    num_vcpus = int(match["vcpus"])
    return num_vcpus, num_vcpus * _GB_PER_VCPU[match["kind"]] * 1_000_000_000


def share_bundle(plan: JobPlan, flags: argparse.Namespace, options: Any, console: Console) -> JobPlan:
    """Uploads a bundle that only this machine has to shared storage, under its digest.

    Args:
        plan: the resolved job.
        flags: the parsed flags.
        options: Beam's pipeline options.
        console: where its URL is printed.

    Returns:
        The plan with the bundle's shared URL.

    Raises:
        UsageError: there is no storage that workers share.
        ModelBundleError: the upload failed.
    """
    if not needs_sharing(plan.encode.bundle, flags):
        return plan
    store = bundle_store(flags, options)
    from model_bundle.bundle.transfer import push_bundle

    url, num_sent = push_bundle(plan.encode.bundle, store)
    console.print("workers", f"bundle for the workers: {url} ({count(num_sent, 'file')} uploaded)")
    place = {**plan.description.bundle, "place": url}
    return replace(
        plan, encode=replace(plan.encode, bundle=url), description=replace(plan.description, bundle=place)
    )


def needs_sharing(bundle: str, flags: argparse.Namespace) -> bool:
    """Whether a bundle must be uploaded before workers can load it."""
    if "://" in bundle or flags.bundle_in_image:
        return False
    return flags.bundle_store is not None or flags.runner.rpartition(".")[2].lower() == "dataflowrunner"


def bundle_store(flags: argparse.Namespace, options: Any) -> str:
    """Returns the folder in shared storage that bundles are uploaded to.

    Raises:
        UsageError: none was named, or it is no URL of remote storage.
    """
    temp = options.view_as(GoogleCloudOptions).temp_location
    store: str | None = flags.bundle_store or (f"{temp.rstrip('/')}/{_BUNDLE_FOLDER}" if temp else None)
    if store is None or not is_remote(store):
        raise UsageError(
            f"The bundle ({flags.bundle or 'the default one'}) is on this machine, where remote workers "
            f"cannot read it: expected a location in gs://, s3:// or az://, got {store or 'none'}. Give "
            "--temp_location gs://… or --bundle_store gs://…, name a bundle in gs://, or build it into the "
            "workers' image (--bundle_in_image)."
        )
    return store.rstrip("/")

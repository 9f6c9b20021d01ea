"""What a Dataflow job's workers need: the bundle in reach, memory for the model, processes."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from typing import Any

from apache_beam.options.pipeline_options import DebugOptions, StandardOptions, WorkerOptions

from beam_jobs.errors import UsageError
from beam_jobs.job.console.console import Voice
from beam_jobs.job.dataflow.bundle_upload import share_bundle
from beam_jobs.pipeline.build import JobPlan
from beam_jobs.pipeline.settings import EncodeSettings

# AMX, which --precision bfloat16 uses, and 4 GB a vCPU.
DEFAULT_MACHINE = "c3-standard-4"
_GB_PER_VCPU = {"standard": 4, "highmem": 8, "highcpu": 2}
_MACHINE = re.compile(r"^[a-z0-9]+-(?P<kind>standard|highmem|highcpu)-(?P<vcpus>\d+)$")
# Measured with bundles of 0.1 and 90 MB (launch/README.md): Python, Beam, TensorFlow before a model ...
_PROCESS_BYTES = 900_000_000
# ... a model while it is frozen and warmed up, in multiples of its files ...
_MODEL_FACTOR = 5
# ... and a batch in flight for each thread.
_LANE_BYTES = 200_000_000
# What the machine's own services, the runner's harness and the file cache want.
_USABLE = 0.75
# Image and logs, the bundle twice while it is fetched, and files that are being written.
_DISK_BYTES = 30_000_000_000
_ONE_PROCESS = "no_use_multiple_sdk_containers"
_MANY_PROCESSES = "use_multiple_sdk_containers"


@dataclass(frozen=True)
class WorkerSettings:
    """What to ask of Dataflow; ``num_processes`` are those of a machine."""

    machine_type: str
    disk_gb: int
    min_ram_gb: int
    num_processes: int
    num_vcpus: int

    @property
    def line(self) -> str:
        """Says it on one line."""
        shared = "one process for all cores" if self.num_processes == 1 else f"{self.num_processes} processes"
        return f"{self.machine_type}, {self.disk_gb} GB disk, at least {self.min_ram_gb} GB memory, {shared}"


def prepare_workers(plan: JobPlan, flags: argparse.Namespace, options: Any, voice: Voice) -> JobPlan:
    """Sees to it that workers elsewhere find the bundle and have room for it.

    Args:
        plan: of the job.
        flags: as given.
        options: Beam's pipeline options; what was not asked for is filled in, for Dataflow.
        voice: says what was chosen.

    Returns:
        The plan for those workers.

    Raises:
        UsageError: there is no storage that workers share, or the model does not fit into the machine named.
    """
    if options.view_as(StandardOptions).runner.rpartition(".")[2].lower() == "dataflowrunner":
        settings = fit_workers(bundle_bytes(plan.encode), options)
        plan = _in_one_process(plan, settings)
        apply_settings(settings, options)
        voice.say("workers", f"workers: {settings.line}")
    return share_bundle(plan, flags, options, voice)


def bundle_bytes(settings: EncodeSettings) -> int:
    """Returns the size of the files of a bundle."""
    return sum(file.size for file in settings.open_bundle().manifest.files)


def process_bytes(model_bytes: int, num_threads: int) -> int:
    """Estimates what one process with the model takes at most.

    >>> process_bytes(90_000_000, 1)
    1550000000
    """
    return _PROCESS_BYTES + _MODEL_FACTOR * model_bytes + _LANE_BYTES * num_threads


def fit_workers(model_bytes: int, options: Any) -> WorkerSettings:
    """Chooses machine, disk and processes for a model of this size.

    One process with all cores is the default: it holds the model once, and its lanes keep every core at work
    (docs/decisions/lanes.md). Several are used where that was asked for (``--experiments
    use_multiple_sdk_containers``).

    Raises:
        UsageError: the model does not fit into the machine that was named.
    """
    worker, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    is_many = _MANY_PROCESSES in (debug.experiments or [])
    machine = worker.machine_type or _smallest(model_bytes, is_many)
    size = _size_of(machine)
    num_vcpus = size[0] if size else 4
    num_processes = num_vcpus if is_many else 1
    needed = num_processes * process_bytes(model_bytes, num_vcpus // num_processes)
    if size is not None and needed > _USABLE * size[1]:
        raise UsageError(
            f"--machine_type {machine}: the model needs about {needed / 1e9:.1f} GB in {num_processes} "
            f"process(es), and {_USABLE:.0%} of {size[1] / 1e9:.0f} GB can be used. Take a machine with more "
            f"memory, such as {_smallest(model_bytes, is_many)}"
            + (f", or leave {_MANY_PROCESSES} out." if is_many else ".")
        )
    disk = worker.disk_size_gb or -(-(_DISK_BYTES + 3 * model_bytes) // 1_000_000_000)
    return WorkerSettings(machine, disk, -(-needed // 1_000_000_000), num_processes, num_vcpus)


def apply_settings(settings: WorkerSettings, options: Any) -> None:
    """Fills in what was not asked for."""
    worker, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    worker.machine_type = settings.machine_type
    worker.disk_size_gb = settings.disk_gb
    if settings.num_processes == 1:
        debug.add_experiment(_ONE_PROCESS)
        if debug.number_of_worker_harness_threads is None:
            # One bundle is read or written while the other is in the model, which has all cores.
            debug.number_of_worker_harness_threads = 2
    standard = options.view_as(StandardOptions)
    if not standard.resource_hints:
        standard.resource_hints = [f"min_ram={settings.min_ram_gb}GB"]


def _in_one_process(plan: JobPlan, settings: WorkerSettings) -> JobPlan:
    """Returns each of several processes one lane, where no other number was asked for."""
    if settings.num_processes == 1 or plan.encode.num_threads is not None:
        return plan
    return replace(plan, encode=replace(plan.encode, num_threads=1))


def _smallest(model_bytes: int, is_many: bool) -> str:
    """Finds the smallest machine of the family with AMX that holds the model."""
    for machine in (DEFAULT_MACHINE, "c3-highmem-4", "c3-highmem-8", "c3-highmem-22"):
        size = _size_of(machine)
        assert size is not None
        num_processes = size[0] if is_many else 1
        if num_processes * process_bytes(model_bytes, size[0] // num_processes) <= _USABLE * size[1]:
            return machine
    return "c3-highmem-44"


def _size_of(machine: str) -> tuple[int, int] | None:
    """Returns a machine's vCPUs and memory in bytes; None where its name does not tell.

    >>> _size_of("c3-standard-4"), _size_of("a2-highgpu-1g")
    ((4, 16000000000), None)
    """
    match = _MACHINE.match(machine)
    if match is None:
        return None
    num_vcpus = int(match["vcpus"])
    return num_vcpus, num_vcpus * _GB_PER_VCPU[match["kind"]] * 1_000_000_000

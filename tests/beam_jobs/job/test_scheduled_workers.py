"""What is asked of Dataflow for a model of a given size."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions, WorkerOptions

from beam_jobs.errors import UsageError
from beam_jobs.job.dataflow.workers import apply_settings, fit_workers, process_bytes

MB = 1_000_000


@pytest.mark.parametrize(
    ("flags", "model_bytes", "machine", "num_processes"),
    [
        ([], 90 * MB, "c3-standard-4", 1),
        ([], 1500 * MB, "c3-standard-4", 1),
        ([], 3000 * MB, "c3-highmem-4", 1),
        (["--experiments=use_multiple_sdk_containers"], 90 * MB, "c3-standard-4", 4),
        (["--experiments=use_multiple_sdk_containers"], 440 * MB, "c3-highmem-4", 4),
        (["--machine_type=n2d-standard-8"], 440 * MB, "n2d-standard-8", 1),
        (["--machine_type=g2-standard-4"], 440 * MB, "g2-standard-4", 1),
        (["--machine_type=a2-highgpu-1g"], 440 * MB, "a2-highgpu-1g", 1),
    ],
)
def test_machine_and_processes_follow_from_the_size(
    flags: list[str], model_bytes: int, machine: str, num_processes: int
) -> None:
    settings = fit_workers(model_bytes, "float32", PipelineOptions(flags))
    assert (settings.machine_type, settings.num_processes) == (machine, num_processes)
    is_named = any(flag.startswith("--machine_type") for flag in flags)
    assert ("cheapest per document in float32" in settings.line) != is_named
    assert settings.disk_gb * 1_000_000_000 >= 30_000 * MB + 3 * model_bytes
    assert settings.min_ram_gb * 1_000_000_000 >= num_processes * process_bytes(model_bytes, 1)


def test_a_machine_that_is_too_small_is_refused_with_one_that_is_not() -> None:
    with pytest.raises(UsageError, match=r"needs about 4\.\d GB in 1 process.*c3-standard-4"):
        fit_workers(700 * MB, "float32", PipelineOptions(["--machine_type=n2-highcpu-2"]))


def test_what_was_asked_for_stays() -> None:
    options = PipelineOptions(
        ["--disk_size_gb=77", "--number_of_worker_harness_threads=5", "--resource_hints=min_ram=9GB",
         "--machine_type=n2-standard-8"]
    )  # fmt: skip
    apply_settings(fit_workers(90 * MB, "float32", options), options)
    worker = options.view_as(WorkerOptions)
    assert (worker.machine_type, worker.disk_size_gb) == ("n2-standard-8", 77)
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 5
    assert options.view_as(StandardOptions).resource_hints == ["min_ram=9GB"]
    assert "no_use_multiple_sdk_containers" in options.view_as(DebugOptions).experiments

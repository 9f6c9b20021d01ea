"""Flags that only an engine's own server knows reach it, and are slips everywhere else."""

from __future__ import annotations

import pytest

from beam_jobs.errors import UsageError
from beam_jobs.job.flags.beam import pipeline_options

FLAGS = ["--max_bundle_size", "1000000", "--max_bundle_time_mills=600000", "--parallelism", "2"]


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
def test_flink_gets_its_own_flags(runner: str) -> None:
    options = pipeline_options(runner, FLAGS, [])
    told = options.get_all_options(retain_unknown_options=True)
    assert (told["max_bundle_size"], told["max_bundle_time_mills"]) == ("1000000", "600000")


def test_other_runners_refuse_them() -> None:
    with pytest.raises(UsageError, match="--max_bundle_size is neither a flag of this job nor of Beam"):
        pipeline_options("DataflowRunner", FLAGS, [])


def test_a_slip_is_still_told() -> None:
    with pytest.raises(UsageError, match="Did you mean --max_bundle_size"):
        pipeline_options("FlinkRunner", ["--max_bundle_sizes", "5"], ["--max_bundle_size"])

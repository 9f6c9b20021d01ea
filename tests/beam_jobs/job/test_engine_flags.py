"""Flags that only an engine's own server knows reach it, and are slips everywhere else."""

from __future__ import annotations

import logging

import pytest

from beam_jobs.errors import UsageError
from beam_jobs.job.console.log_capture import open_console
from beam_jobs.job.flags.beam import addresses, pipeline_options, share_cores
from beam_jobs.job.run import name_address

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


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_beam_does_not_warn_of_flags_that_arrive(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_console(["--log_format", log_format]):
        logger = logging.getLogger("apache_beam.options.pipeline_options")
        logger.warning("Unparseable argument: --max_bundle_size")
        logger.warning("something else")
    err = capsys.readouterr().err
    assert "Unparseable" not in err
    if log_format == "json":
        assert "something else" in err


def test_a_refused_connection_names_its_flag() -> None:
    flags = ["--job_endpoint", "localhost:8099", "--environment_config", "localhost:50000"]
    options = pipeline_options("PortableRunner", [*flags, "--environment_type", "EXTERNAL"], [])
    known = addresses(options)
    assert known == {"--job_endpoint": "localhost:8099", "--environment_config": "localhost:50000"}
    java = "java.net.ConnectException: Connection refused: localhost/127.0.0.1:50000"
    assert name_address(java, known) == (
        f"{java} (--environment_config localhost:50000). Is a server listening there?"
    )
    grpc = "status = UNAVAILABLE details = failed to connect to all addresses"
    assert "--job_endpoint localhost:8099, --environment_config localhost:50000" in name_address(grpc, known)
    assert name_address(grpc, {}) == grpc


@pytest.mark.parametrize(
    ("given", "num_threads", "num_cores", "workers", "lanes"),
    [
        ("0", None, 2, 1, None),  # one process fills them
        ("0", None, 64, 4, 16),
        ("0", None, 96, 6, 16),
        ("0", 3, 64, 4, 3),
        ("2", None, 2, 2, 1),  # not two lanes for each core
        ("8", None, 4, 8, 1),
        ("1", None, 64, 1, None),
    ],
)
def test_cores_are_shared_among_processes(
    given: str, num_threads: int | None, num_cores: int, workers: int, lanes: int | None
) -> None:
    flags = ["--direct_running_mode", "multi_processing", "--direct_num_workers", given]
    options = pipeline_options("DirectRunner", flags, [])
    assert share_cores(options, num_threads, num_cores) == lanes
    assert options.get_all_options()["direct_num_workers"] == workers


def test_one_process_is_one_worker() -> None:
    options = pipeline_options("DirectRunner", ["--direct_num_workers", "0"], [])
    assert share_cores(options, None, 64) is None
    assert options.get_all_options()["direct_num_workers"] == 1

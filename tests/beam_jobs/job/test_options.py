"""Flags: ours, Beam's, and neither."""

from __future__ import annotations

from typing import Any

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    StandardOptions,
)

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.errors import UsageError
from beam_jobs.job.flags.beam import (
    IN_PROCESS_RUNNER,
    beam_parser,
    is_in_process,
    pipeline_options,
)
from beam_jobs.job.flags.parsers import embed_parser


def _own() -> list[str]:
    return embed_parser().flag_names()


def _beams() -> set[str]:
    return set(beam_parser().flag_names())


def test_no_flag_of_ours_is_one_of_beams() -> None:
    assert len(_beams()) > 150
    assert set(_own()) & _beams() == {"--runner"}


@pytest.mark.parametrize("runner", ["DirectRunner", "directrunner", "FnApiRunner", IN_PROCESS_RUNNER])
def test_the_direct_runner_is_the_one_in_this_process(runner: str) -> None:
    assert is_in_process(runner)
    assert pipeline_options(runner, [], []).view_as(StandardOptions).runner == IN_PROCESS_RUNNER


@pytest.mark.parametrize("runner", ["DataflowRunner", "FlinkRunner", "PrismRunner"])
def test_other_runners_pass_through(runner: str) -> None:
    assert not is_in_process(runner)
    assert pipeline_options(runner, [], []).view_as(StandardOptions).runner == runner


def test_beams_flags_pass_through() -> None:
    rest = ["--direct_num_workers=2", "--direct_running_mode", "multi_processing", "--project", "p",
            "--region=r", "--labels", "a=b", "--experiments=x", "--experiments", "y"]  # fmt: skip
    options = pipeline_options("DirectRunner", rest, _own())
    assert options.view_as(DirectOptions).direct_num_workers == 2
    assert options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    assert options.view_as(GoogleCloudOptions).labels == ["a=b"]
    assert options.view_as(GoogleCloudOptions).project == "p"


@pytest.mark.parametrize(
    ("flag", "near"),
    [("--max_tokenz", "--max_tokens"), ("--bundel=x", "--bundle"), ("--temp_locaton=x", "--temp_location"),
     ("--qqqqqq", "--help")],
)  # fmt: skip
def test_a_flag_of_nobodys_is_an_error_that_names_the_nearest(flag: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"{flag.split('=')[0]} is neither .*{near}"):
        pipeline_options("DirectRunner", [flag, "128"], _own())


def test_flags_are_not_abbreviated() -> None:
    flags, rest = embed_parser().parse_known_args(["--max_tok", "5"])
    assert (flags.max_tokens, rest) == (None, ["--max_tok", "5"])


def test_a_negative_layer_is_a_value() -> None:
    flags, rest = embed_parser().parse_known_args(["--layer", "-1", "--layer", "-2"])
    assert (flags.layer, rest) == (["-1", "-2"], [])


@pytest.mark.parametrize(
    ("kind", "options"),
    [(FailureLimits, {"max_dead_fraction": -0.1}), (FailureLimits, {"max_dead_fraction": float("nan")}),
     (FailureLimits, {"max_dead_files": -1}), (WriteOptions, {"max_shard_bytes": 0}),
     (WriteOptions, {"checkpoint_seconds": 0}), (WriteOptions, {"checkpoint_seconds": float("nan")}),
     (WriteOptions, {"run_id": "a/b"}), (WriteOptions, {"run_id": ".."}), (WriteOptions, {"output": "ftp://b"})],
)  # fmt: skip
def test_values_that_cannot_be_meant(kind: type[Any], options: dict[str, Any]) -> None:
    needed = {"output": "out", "run_id": "run", "attempt_id": "a"} if kind is WriteOptions else {}
    kind(**needed)
    with pytest.raises(UsageError, match="--" + next(iter(options))):
        kind(**(needed | options))

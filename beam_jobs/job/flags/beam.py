"""Flags that belong to Beam: known ones pass through, anything else is an error with the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from beam_jobs.base.command import Parser
from beam_jobs.errors import UsageError

# Beam 2.77's own DirectRunner tries to download another engine first; this is the engine it falls back to.
IN_PROCESS_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_IN_PROCESS_NAMES = {"directrunner", "fnapirunner", IN_PROCESS_RUNNER.lower()}
# Beam's Java runner for Flink has these; its job server tells Python of them when a job is submitted, which
# is too late to tell a flag from a slip. Source: FlinkPipelineOptions.
_FLINK_FLAGS = (
    *("checkpointing_interval", "disable_metrics", "execution_mode_for_batch", "execution_retry_delay"),
    *("max_bundle_size", "max_bundle_time_mills", "number_of_execution_retries", "object_reuse"),
)

# Python's threads, of which one runs at a time, need at most 19 ms for a batch that takes MiniLM 455 ms of a
# core in float32: 16 lanes keep them busy for two thirds of the time. Measured on two cores, not on 16;
# figures of faster models: docs/explanation/scaling.md.
_LANES_PER_PROCESS = 16


def is_in_process(runner: str) -> bool:
    """Whether a runner's name means Beam's in-process Fn API runner."""
    return runner.lower() in _IN_PROCESS_NAMES


def pipeline_options(runner: str, rest: Sequence[str], own_flags: Sequence[str]) -> Any:
    """Builds Beam's options from the flags that are not ours.

    Args:
        runner: as given to ``--runner``.
        rest: flags that our parser does not know.
        own_flags: ours, to suggest from.

    Raises:
        UsageError: a flag that neither we nor Beam know (Beam itself would only log it).
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = beam_parser()
    if runner.lower().rpartition(".")[2] in ("flinkrunner", "portablerunner"):
        for name in _FLINK_FLAGS:
            parser.add_argument(f"--{name}")
    try:
        _, unknown = parser.parse_known_args(list(rest))
    except UsageError as error:
        raise UsageError(f"A flag of Apache Beam: {str(error).partition('. See:')[0]}.") from error
    known = [*own_flags, *parser.flag_names()]
    for flag in unknown:
        raise UsageError(_describe(flag, known))
    name = IN_PROCESS_RUNNER if is_in_process(runner) else runner
    return PipelineOptions([f"--runner={name}", *rest])


def share_cores(options: Any, num_threads: int | None, num_cores: int) -> int | None:
    """Resolves how many processes Beam's own runner starts, and returns the threads of each.

    Args:
        options: Beam's pipeline options; ``direct_num_workers`` 0 is replaced.
        num_threads: as given; None takes an equal share of the cores.
        num_cores: of this machine.
    """
    from apache_beam.options.pipeline_options import DirectOptions

    direct = options.view_as(DirectOptions)
    is_several = direct.direct_running_mode == "multi_processing"
    if direct.direct_num_workers == 0:
        direct.direct_num_workers = -(-num_cores // _LANES_PER_PROCESS) if is_several else 1
    if num_threads is None and is_several and direct.direct_num_workers > 1:
        return int(max(1, num_cores // direct.direct_num_workers))
    return num_threads


def addresses(options: Any) -> dict[str, str]:
    """Returns the addresses that an engine is asked at, by flag; those that were not given are left out."""
    known = options.get_all_options(drop_default=True)
    names = ["job_endpoint", "flink_master"]
    if known.get("environment_type") == "EXTERNAL":
        names.append("environment_config")
    return {f"--{name}": str(known[name]) for name in names if known.get(name)}


def beam_parser() -> Parser:
    """Builds a parser of all flags of Beam."""
    from apache_beam.options.pipeline_options import PipelineOptions

    # Two of Beam's option classes may share a flag.
    parser = Parser(prog="Apache Beam", add_help=False, conflict_handler="resolve")
    for kind in _option_classes(PipelineOptions):
        kind._add_argparse_args(parser)
    return parser


def _option_classes(kind: Any) -> Iterator[Any]:
    for child in kind.__subclasses__():
        if "_add_argparse_args" in vars(child) and child.__module__.startswith("apache_beam."):
            yield child
        yield from _option_classes(child)


def _describe(flag: str, known: Sequence[str]) -> str:
    name = flag.split("=")[0]
    if not name.startswith("-"):
        return f"{flag!r} is not a flag. Quote patterns and values with spaces; see --help."
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else " See --help for ours; Beam's are in its documentation."
    return f"{name} is neither a flag of this job nor of Beam.{hint}"

"""``python -m beam_jobs.runs``: lists, deletes, validates and compacts runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from beam_jobs.base.command import Parser
from beam_jobs.errors import UsageError
from model_bundle.base.command import run_command
from model_bundle.base.flags import add_flag

_ABOUT = """\
Lists, deletes, validates and compacts runs.

  ROOT list      all runs below ROOT, failed and unfinished ones included
  ROOT delete    deletes failed and unfinished runs; with --keep N also all but the newest N finished ones. \
Never the latest run, nor one that a remaining run depends on
  RUN validate   reads a run again and checks every digest, count and vector, and that no id occurs twice
  RUN compact    runs a job that writes the rows of a run to fewer, larger files, as a new run"""
_VERBS = ("list", "delete", "validate", "compact")
_EPILOG = """\
With compact, flags that are not listed here go to Apache Beam.
Exit codes: 0 done or valid, 1 not valid or an error, 2 wrong use."""
_EXAMPLES = ("out list", "out delete --keep 3 --print_only", "out validate")


def runs_parser() -> Parser:
    """Builds the parser of the command."""
    parser = Parser(
        prog="python -m beam_jobs.runs",
        description=_ABOUT,
        epilog=_EPILOG,
        examples=_EXAMPLES,
        has_version=True,
    )
    add = partial(add_flag, parser)
    add("place ROOT|RUN", "folder, local, gs://, s3:// or az://")
    add("verb " + "|".join(_VERBS), "what to do", choices=_VERBS)
    add("--keep N", "delete: number of finished runs to keep, at least 1", parse=int)
    add(
        "--min_age_hours H",
        "delete: keep unfinished runs written to within the last H hours (default: 24)",
        default=24.0,
    )
    add("--yes", "delete: do not ask for confirmation")
    add("--print_only", "delete: only print what would be deleted")
    add("--format", "list: output format (default: text)", choices=["text", "json"], default="text")
    add("--output DIR", "compact: root of the new run (default: that of the run)")
    add("--run_id ID", "compact: folder of the new run (default: generated)")
    add("--max_shard_bytes N", "compact: size of the new files (default: 512 MB)", parse=int)
    add(
        "--only_this_run",
        "compact, validate: of a run of changes (--emit changes), take its own files alone",
    )
    add("--runner NAME", "compact: Beam runner (default: DirectRunner)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns the exit code."""
    return run_command(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    words = list(argv)
    if len(words) > 1 and words[0] in _VERBS and words[1] not in _VERBS:
        words[:2] = words[1::-1]  # the verb may come first
    parser = runs_parser()
    flags, rest = parser.parse_known_args(words)
    _check(flags, rest)
    if flags.verb == "compact":
        from beam_jobs.job.console.notebook import ordinary_pipelines
        from beam_jobs.runs.compact import compact

        flags.runner = flags.runner or "DirectRunner"
        with ordinary_pipelines():
            return compact(flags, rest, parser.flag_names(), sys.stdout)
    if flags.verb == "validate":
        from beam_jobs.runs.validate import validate

        return validate(flags.place, sys.stdout, only_this_run=flags.only_this_run)
    if flags.verb == "list":
        from beam_jobs.runs.listing import print_list

        return print_list(flags, sys.stdout)
    from beam_jobs.runs.deletion import delete

    return delete(flags, sys.stdout)


def _check(flags: Namespace, rest: Sequence[str]) -> None:
    """Rejects flags that have no effect with the given verb."""
    if rest and flags.verb != "compact":
        raise UsageError(f"unrecognized arguments: {' '.join(rest)}. See: python -m beam_jobs.runs --help")
    for name in ("output", "run_id", "max_shard_bytes", "runner"):
        if getattr(flags, name) is not None and flags.verb != "compact":
            raise UsageError(f"--{name} is for compact, not for {flags.verb}.")
    if flags.only_this_run and flags.verb not in ("compact", "validate"):
        raise UsageError(f"--only_this_run is for compact and validate, not for {flags.verb}.")
    deleting = {"--keep": flags.keep is not None, "--yes": flags.yes, "--print_only": flags.print_only}
    for flag, is_given in deleting.items():
        if is_given and flags.verb != "delete":
            raise UsageError(f"{flag} is for delete, not for {flags.verb}.")
    if flags.format != "text" and flags.verb != "list":
        raise UsageError(f"--format is for list, not for {flags.verb}.")
    if flags.keep is not None and flags.keep < 1:
        raise UsageError(f"--keep must be at least 1, not {flags.keep}: the latest run always stays.")


if __name__ == "__main__":
    sys.exit(main())

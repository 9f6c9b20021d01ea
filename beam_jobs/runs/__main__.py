"""``python -m beam_jobs.runs``: which runs there are, which can go, whether one is whole."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from beam_jobs.base.tools import ToolParser, run_tool
from beam_jobs.errors import UsageError

_ABOUT = """\
Looks after runs.

  ROOT list      every run below ROOT, also those that failed or never finished
  ROOT delete    removes failed and unfinished runs, with --keep N also finished ones but the newest N;
                 never the latest, nor one that a run that stays needs
  RUN validate   reads a run again: every digest and count, vectors, ids that are there twice
  RUN compact    a job: writes the rows of a run into few files of good size, as a new run"""
_VERBS = ("list", "delete", "validate", "compact")
_EPILOG = """\
With compact, flags that are not listed here go to Apache Beam.
Exit codes: 0 done or valid, 1 not valid or an error, 2 wrong use."""


def runs_parser() -> ToolParser:
    """Builds the parser of the command."""
    parser = ToolParser("runs", _ABOUT, _EPILOG)
    parser.add_argument("place", metavar="ROOT|RUN", help="folder, local or gs://")
    parser.add_argument("verb", choices=_VERBS, metavar="|".join(_VERBS), help="what to do")
    parser.add_argument("--keep", type=int, metavar="N", help="delete: finished runs that stay, at least 1")
    parser.add_argument(
        "--min_age_hours",
        type=float,
        default=24.0,
        metavar="H",
        help="delete: unfinished runs stay that were written to within H hours (default: 24)",
    )
    parser.add_argument("--yes", action="store_true", help="delete: do not ask")
    parser.add_argument("--print_only", action="store_true", help="delete: say what would go, and stop")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="list: how to print")
    parser.add_argument("--output", metavar="DIR", help="compact: root of the new run (default: the run's)")
    parser.add_argument("--run_id", metavar="ID", help="compact: the new run's folder (default: made)")
    parser.add_argument(
        "--max_shard_bytes", type=int, metavar="N", help="compact: size of files (default: 512 MB)"
    )
    parser.add_argument("--runner", metavar="NAME", help="compact: where to run (default: DirectRunner)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Does it and gives the exit code."""
    return run_tool(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    words = list(argv)
    if len(words) > 1 and words[0] in _VERBS and words[1] not in _VERBS:
        words[:2] = words[1::-1]  # the verb may come first
    parser = runs_parser()
    flags, rest = parser.parse_known_args(words)
    _check(flags, rest)
    if flags.verb == "compact":
        from beam_jobs.runs.compact import compact

        flags.runner = flags.runner or "DirectRunner"
        own = [option for action in parser._actions for option in action.option_strings]
        return compact(flags, rest, own, sys.stdout)
    if flags.verb == "validate":
        from beam_jobs.runs.validate import validate

        return validate(flags.place, sys.stdout)
    if flags.verb == "list":
        from beam_jobs.runs.listing import print_list

        return print_list(flags, sys.stdout)
    from beam_jobs.runs.deletion import delete

    return delete(flags, sys.stdout)


def _check(flags: Namespace, rest: Sequence[str]) -> None:
    """Refuses flags that have no effect here."""
    if rest and flags.verb != "compact":
        raise UsageError(f"unrecognized arguments: {' '.join(rest)}. See: python -m beam_jobs.runs --help")
    for name in ("output", "run_id", "max_shard_bytes", "runner"):
        if getattr(flags, name) is not None and flags.verb != "compact":
            raise UsageError(f"--{name} is for compact, not for {flags.verb}.")
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

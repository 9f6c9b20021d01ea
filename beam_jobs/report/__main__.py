"""``python -m beam_jobs.report RUN``: makes the report of a run again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from beam_jobs.base.tools import ToolParser, run_tool

_ABOUT = """\
Makes the report of a run, one HTML page that needs no network, from its manifest and a sample of its
rows."""


def report_parser() -> ToolParser:
    """Builds the parser of the command."""
    parser = ToolParser("report", _ABOUT)
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the root of runs: its latest")
    parser.add_argument(
        "--output", metavar="FILE", help="where to write it (default: report.html in the run's folder)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Makes it and gives the exit code."""
    return run_tool(lambda: _report(sys.argv[1:] if argv is None else argv))


def _report(argv: Sequence[str]) -> int:
    flags = report_parser().parse_args(list(argv))
    import pyarrow as pa

    from beam_jobs.errors import JobError
    from beam_jobs.report.page import make_page
    from beam_jobs.store import filesystem
    from beam_jobs.store.finished_run import find_ended_run
    from beam_jobs.store.manifest import REPORT_NAME

    run = find_ended_run(flags.run)
    try:
        page = make_page(run).encode("utf-8")
    except (OSError, pa.ArrowException) as error:
        raise JobError(
            f"A file of {run.folder} cannot be read: {error}. Check it: python -m beam_jobs.runs RUN validate"
        ) from error
    output = flags.output or filesystem.join(run.folder, REPORT_NAME)
    if output.startswith("gs://"):
        from beam_jobs.store import filesystem

        filesystem.replace(output, page)
    else:
        Path(output).write_bytes(page)
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

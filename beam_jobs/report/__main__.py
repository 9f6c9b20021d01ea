"""``python -m beam_jobs.report RUN``: writes the report of a run again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from beam_jobs.base.command import Parser
from model_bundle.base.command import run_command
from model_bundle.base.flags import add_flag

_ABOUT = """\
Writes the report of a run, one HTML page that needs no network, from its manifest and a sample of its
rows."""
_EXAMPLES = ("out", "out --output report.html")


def report_parser() -> Parser:
    """Builds the parser of the command."""
    parser = Parser(
        prog="python -m beam_jobs.report", description=_ABOUT, examples=_EXAMPLES, has_version=True
    )
    add = partial(add_flag, parser)
    add("run RUN", "folder of a run, or root of runs (means its latest run)")
    add("--only_this_run", "of a run of changes (--emit changes), draw the map of these rows alone")
    add("--output FILE", "file to write (default: report.html in the folder of the run)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a report and returns the exit code."""
    return run_command(lambda: _report(sys.argv[1:] if argv is None else argv))


def _report(argv: Sequence[str]) -> int:
    flags = report_parser().parse_args(list(argv))
    import pyarrow as pa

    from beam_jobs.errors import JobError
    from beam_jobs.report.page import make_page
    from beam_jobs.store import filesystem
    from beam_jobs.store.chain import with_chain
    from beam_jobs.store.finished_run import find_ended_run
    from beam_jobs.store.manifest import REPORT_NAME
    from model_bundle.base.system_errors import explain_system_error

    run = find_ended_run(flags.run)
    if run.manifest.failure is None and not flags.only_this_run:
        run = with_chain(run)
    try:
        page = make_page(run).encode("utf-8")
    except (OSError, pa.ArrowException) as error:
        if explain_system_error(error):
            raise
        raise JobError(
            f"A file of {run.folder} cannot be read: {error}. Check it: python -m beam_jobs.runs RUN validate"
        ) from error
    output = flags.output or filesystem.join(run.folder, REPORT_NAME)
    if not filesystem.is_local(output):
        from beam_jobs.store import filesystem

        filesystem.replace(output, page)
    else:
        Path(output).write_bytes(page)
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

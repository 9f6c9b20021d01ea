"""``python -m beam_jobs``: lists the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.base.command import Parser
from model_bundle.base.command import run_command

_ABOUT = """\
Batch embedding on Apache Beam. The commands, each with --help:

  python -m beam_jobs.embed         computes vectors of texts (beam-embed)
  python -m beam_jobs.classify      computes labels and scores of texts (beam-classify)
  python -m beam_jobs.search        finds the documents of a run nearest to a query (beam-search)
  python -m beam_jobs.runs          lists, deletes, validates and compacts runs (beam-runs)
  python -m beam_jobs.sync          brings a database to the rows of a run (beam-sync)
  python -m beam_jobs.report        writes the report of a run again
  python -m beam_jobs.worker_pool   starts worker processes for remote runners
  python -m model_bundle            builds, checks and describes model bundles (model-bundle)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the commands and returns the exit code."""
    parser = Parser(
        prog="python -m beam_jobs",
        description=_ABOUT,
        examples=(
            "python -m beam_jobs.embed --output out",
            'python -m beam_jobs.search out --query "planets of other suns"',
        ),
        has_version=True,
    )

    def run() -> None:
        parser.parse_args(argv)
        parser.print_help()

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m beam_jobs.embed``: texts to vectors. The entry point of ``job/launch.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an embed job and returns the exit code."""
    from beam_jobs.job.flags.parsers import embed_parser
    from beam_jobs.job.launch import launch_job

    return launch_job(embed_parser(), sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m beam_jobs.classify``: texts to labels. The entry point of ``job/launch.py``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a classify job and returns the exit code."""
    from beam_jobs.job.flags.parsers import classify_parser
    from beam_jobs.job.launch import launch_job

    return launch_job(classify_parser(), sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())

"""The flags of ``python -m benchmarks.run``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import BusySeconds
from benchmarks.registry import DEFAULT_PEERS_PYTHON, JOB_NAMES, LOOP_NAMES
from benchmarks.results import DEFAULT_OUTPUT
from benchmarks.worker import HELD_TO

_QUIET_SHARE = 0.05
_LISTEN_SECONDS = 2.0


def run_parser(parts: Sequence[str]) -> argparse.ArgumentParser:
    """Builds the parser; defaults are those of the tables in the README."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Benchmarks this project alone and against its peers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--parts", default=",".join(parts), help="what to measure")
    parser.add_argument(
        "--systems", default=",".join([*LOOP_NAMES, *JOB_NAMES]), help="which systems, in the part 'peers'"
    )
    parser.add_argument("--documents", type=int, default=7600, help="documents per round of the model loops")
    parser.add_argument(
        "--cores",
        type=int,
        help="run everything on so many cores: with 1, processor time compares systems on a busy machine",
    )
    parser.add_argument(
        "--held_to",
        choices=HELD_TO,
        help="the best instructions that model loops may use, to measure older processors on newer ones",
    )
    parser.add_argument(
        "--quality_data", type=Path, help="folder of the STS benchmark and AG News, for the table of quality"
    )
    parser.add_argument("--quality_documents", type=int, default=2000, help="news texts of that table")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the model loops")
    parser.add_argument("--job_documents", type=int, default=76_000, help="documents of a job to Parquet")
    parser.add_argument("--job_rounds", type=int, default=3, help="rounds of the jobs")
    parser.add_argument(
        "--scale_documents", type=int, default=1_000_000, help="documents of the largest job in 'scale'"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        help=".csv or .txt, also .gz (default: the AG News test set if found, else the sample text)",
    )
    parser.add_argument(
        "--peers_python", type=Path, default=DEFAULT_PEERS_PYTHON, help="interpreter with the peers installed"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help="folder of the results; the README's tables are only updated with the default",
    )
    parser.add_argument("--work", type=Path, help="parent of temporary folders (default: the system's)")
    return parser


def check_quiet() -> None:
    """Warns if other processes are busy, which would distort the figures."""
    before = BusySeconds.now()
    time.sleep(_LISTEN_SECONDS)
    share = before.others_since(0.0, _LISTEN_SECONDS)
    if share is not None and share > _QUIET_SHARE:
        print(
            f"warning: {share:.0%} of this machine is busy with something else. Ratios may hold, speeds do "
            "not; every table says how much others used.",
            file=sys.stderr,
        )

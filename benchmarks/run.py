"""Runs all benchmarks: ``python -m benchmarks.run``. See README.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import bert_base, families, peers, scale, startup
from benchmarks.errors import BenchmarkError
from benchmarks.flags import check_quiet, run_parser

_PARTS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "peers": peers.run,
    "startup": startup.run,
    "bert_base": bert_base.run,
    "families": families.run,
    "scale": scale.run,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected parts and returns the exit code."""
    parser = run_parser(tuple(_PARTS))
    flags = parser.parse_args(argv)
    parts = flags.parts.split(",")
    try:
        unknown = sorted(set(parts) - set(_PARTS))
        if unknown:
            raise BenchmarkError(
                f"--parts: there is no {', '.join(unknown)}; there are: {', '.join(_PARTS)}."
            )
        check_quiet()
        if flags.cores:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: flags.cores])
        for part in parts:
            with tempfile.TemporaryDirectory(prefix=f"benchmark-{part}-", dir=flags.work) as work:
                _PARTS[part](flags, Path(work))
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

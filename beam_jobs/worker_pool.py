"""``python -m beam_jobs.worker_pool``: starts worker processes for runners that ask for them from elsewhere.

Beam's own pool starts whatever is called ``python`` on the path, and reads nothing of what its workers print:
without this project there, or with a chatty worker, a job hangs without a word.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is stopped; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.worker_pool",
        description="Starts a worker process, with this Python, for every one that a runner asks for: "
        "--environment_type EXTERNAL --environment_config HOST:PORT.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--service_port", type=int, required=True, metavar="N", help="where to listen; 0 takes any"
    )
    serve(parser.parse_args(argv).service_port)
    threading.Event().wait()
    return 0


def serve(port: int) -> str:
    """Starts a pool in this process, says where on standard output, and gives that address."""
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

    logging.basicConfig(level=logging.INFO)
    python_first()
    address, _ = BeamFnExternalWorkerPoolServicer.start(use_process=True, port=port)
    sys.stdout.write(f"worker pool at {address}\n")
    sys.stdout.flush()
    return str(address)


def python_first() -> None:
    """Makes ``python`` on the path this interpreter, with its output going to standard error."""
    folder = tempfile.mkdtemp(prefix="beam_jobs_worker_pool_")
    script = Path(folder, "python")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" 1>&2\n', encoding="utf-8")
    script.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])


if __name__ == "__main__":
    sys.exit(main())

"""``python -m beam_jobs.worker_pool``: starts worker processes for runners that request them remotely.

Beam's own pool starts whatever is called ``python`` on the path, and reads nothing of what its workers print:
without this project there, or with a chatty worker, a job hangs without a word.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beam_jobs.base.command import Parser
from model_bundle.base.command import run_command
from model_bundle.base.flags import add_flag

if TYPE_CHECKING:
    import grpc


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is stopped; returns the exit code."""
    return run_command(lambda: _serve_forever(worker_pool_parser().parse_args(argv).service_port))


def worker_pool_parser() -> Parser:
    """Builds the parser of the command."""
    parser = Parser(
        prog="python -m beam_jobs.worker_pool",
        description="Starts worker processes with this Python for runners that request them: "
        "--environment_type EXTERNAL --environment_config HOST:PORT.",
        examples=("--service_port 50000",),
        has_version=True,
    )
    add_flag(parser, "--service_port N", "port to listen on; 0 takes any free one", parse=int, required=True)
    return parser


def _serve_forever(port: int) -> None:
    serve(port).wait_for_termination()


def serve(port: int) -> grpc.Server:
    """Starts a pool in this process, prints its address to standard output, and returns its server.

    The server lives as long as somebody holds it: gRPC closes the port of one that is collected.
    """
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

    logging.basicConfig(level=logging.INFO)
    python_first()
    address, server = BeamFnExternalWorkerPoolServicer.start(use_process=True, port=port)
    sys.stdout.write(f"worker pool at {address}\n")
    sys.stdout.flush()
    return server


def python_first() -> None:
    """Puts this interpreter first on the path as ``python``, its output going to standard error."""
    folder = tempfile.mkdtemp(prefix="beam_jobs_worker_pool_")
    script = Path(folder, "python")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@" 1>&2\n', encoding="utf-8")
    script.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])


if __name__ == "__main__":
    sys.exit(main())

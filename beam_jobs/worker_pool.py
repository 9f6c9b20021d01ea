"""``python -m beam_jobs.worker_pool``: starts worker processes for engines that request them remotely.

Beam's own pool knows workers by a name that engines sharing it both use, so one stops the other's; starts
whatever is called ``python`` on the path; reads nothing of what its workers print; and leaves zombies.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from beam_jobs.base.command import Parser
from beam_jobs.errors import JobError
from beam_jobs.job.console.console import Console
from beam_jobs.job.console.log_capture import LOG_FORMATS, open_console
from beam_jobs.job.worker_processes import WorkerKey, WorkerProcesses
from model_bundle.base.command import run_command
from model_bundle.base.flags import add_flag

if TYPE_CHECKING:
    import grpc

# Beam's own pool starts its workers so, but with the endpoint and the name inside the code.
_WORKER = (
    "import sys; from model_bundle.base.collection import importing_for_good, skip_collection_at_exit\n"
    "with importing_for_good(): from apache_beam.runners.worker.sdk_worker import SdkHarness\n"
    "skip_collection_at_exit(); "
    "SdkHarness(sys.argv[1], worker_id=sys.argv[2], state_cache_size=0, data_buffer_time_limit_ms=-1).run()"
)
# Requests at a time; one to stop waits for its worker.
_NUM_THREADS = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    with open_console(argv) as console:

        def report(message: str, exit_code: int) -> None:
            console.print("error", message, "ERROR", {"exit_code": exit_code})

        return run_command(lambda: _serve(worker_pool_parser().parse_args(argv), console), report)


def worker_pool_parser() -> Parser:
    """Builds the parser of the command."""
    parser = Parser(
        prog="python -m beam_jobs.worker_pool",
        description="Starts worker processes with this Python for runners that request them: "
        "--environment_type EXTERNAL --environment_config HOST:PORT.",
        examples=("--service_port 50000", "--service_port 50000 --health_port 50001 --log_format json"),
        has_version=True,
    )
    add_flag(parser, "--service_port N", "port to listen on; 0 takes any free one", parse=int, required=True)
    add_flag(parser, "--health_port N", "answer GET /health here: 200, or 503 while stopping", parse=int)
    parser.add_argument(
        "--log_format",
        choices=LOG_FORMATS,
        default="text",
        help="lines for people, or one JSON object per line on standard error (default: text)",
    )
    return parser


def worker_command(key: WorkerKey) -> list[str]:
    """Returns the command line of a Beam worker in this Python."""
    return [sys.executable, "-c", _WORKER, key.endpoint, key.name]


def _serve(flags: argparse.Namespace, console: Console) -> int:
    stopped_by: list[int] = []
    must_stop = Event()

    def stop(number: int, _: object) -> None:
        stopped_by.append(number)
        must_stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    def report(message: str, facts: dict[str, Any]) -> None:  # two pools may log to one place
        console.print("workers", message, facts={"pool_pid": os.getpid()} | facts)

    workers = WorkerProcesses(worker_command, report)
    server, address = open_server(workers, flags.service_port)
    health = None
    try:
        if flags.health_port is not None:
            health = open_health(workers, flags.health_port, address)
        sys.stdout.write(f"worker pool at {address}\n")
        sys.stdout.flush()
        must_stop.wait()
    finally:
        workers.stop_all()
        server.stop(grace=None).wait()
        if health is not None:
            health.shutdown()
            health.server_close()
    console.print("stopped", f"Stopped by {signal.Signals(stopped_by[0]).name}.")
    return 128 + stopped_by[0]


def open_server(workers: WorkerProcesses, port: int) -> tuple[grpc.Server, str]:
    """Serves requests for workers; returns the server, which lives while it is held, and its address.

    Raises:
        JobError: the port cannot be opened.
    """
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2 as messages
    from apache_beam.portability.api import beam_fn_api_pb2_grpc as services

    class Service(services.BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]  # Beam has no types
        def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
            del context
            try:
                workers.start(WorkerKey(request.worker_id, request.control_endpoint.url))
            except (OSError, RuntimeError) as error:  # the engine reports it
                return messages.StartWorkerResponse(error=str(error))
            return messages.StartWorkerResponse()

        def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
            del context
            workers.stop(request.worker_id)
            return messages.StopWorkerResponse()

    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # a second pool on the port is an error, not a share of the requests
    ]
    server = grpc.server(ThreadPoolExecutor(_NUM_THREADS), options=options)
    services.add_BeamFnExternalWorkerPoolServicer_to_server(Service(), server)
    try:
        found = server.add_insecure_port(f"[::]:{port}")
    except RuntimeError as error:
        raise JobError(f"--service_port {port}: cannot be opened; is a pool there already?") from error
    server.start()
    return server, f"localhost:{found}"


def open_health(workers: WorkerProcesses, port: int, address: str) -> ThreadingHTTPServer:
    """Answers ``GET /health`` with the running workers: 200 while the pool serves, 503 while it stops.

    Args:
        workers: those of the pool.
        port: to listen on; 0 takes any free one.
        address: where the pool serves, which tells pools of one machine apart.

    Raises:
        JobError: the port cannot be opened.
    """

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404)
                return
            is_stopping = workers.is_stopping  # before the workers are listed: they end meanwhile
            running = [
                {"worker_id": key.name, "control_endpoint": key.endpoint, "pid": pid}
                for key, pid in workers.running().items()
            ]
            status = "stopping" if is_stopping else "serving"
            pool = {"status": status, "address": address, "pid": os.getpid(), "workers": running}
            body = json.dumps(pool).encode()
            self.send_response(503 if is_stopping else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A probe every few seconds is not worth a line."""

    try:
        server = ThreadingHTTPServer(("", port), Health)
    except OSError as error:
        raise JobError(f"--health_port {port}: cannot be opened ({error.strerror}).") from error
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


if __name__ == "__main__":
    sys.exit(main())

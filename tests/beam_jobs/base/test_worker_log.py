"""Log lines of workers: a log service gets run, attempt and worker from Beam's own handler."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.worker_log import name_run_in_logs
from beam_jobs.pipeline.write import commit, stop, transform


class _LogService(services.BeamFnLoggingServicer):  # type: ignore[misc]  # Beam is not typed
    """Keeps what workers send, as an engine would show it."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def Logging(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        del context
        for batch in request_iterator:
            self.entries += batch.log_entries
        yield from ()


@pytest.fixture
def worker() -> Iterator[tuple[Any, _LogService]]:
    """A process as Beam sets up a worker: its handler is the root's."""
    service, server = _LogService(), grpc.server(ThreadPoolExecutor(2))
    services.add_BeamFnLoggingServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    handler = FnApiLogRecordHandler(endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{port}"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler, service
    root.setLevel(level)
    root.removeHandler(handler)
    handler.close()
    server.stop(None)


def test_each_line_of_a_worker_names_run_attempt_and_worker(worker: tuple[Any, _LogService]) -> None:
    handler, service = worker
    logging.getLogger("beam_jobs").info("before %s", "setup")
    name_run_in_logs(WriteOptions("gs://b/out", "night-1", "a1"))
    name_run_in_logs(WriteOptions("gs://b/out", "night-2", "a2"))  # each stage does it again
    logging.getLogger("beam_jobs.store.run_folder").info("Run finished: %s", "gs://b/out/night-2")
    try:
        raise ValueError("a fault")
    except ValueError:
        logging.getLogger("apache_beam").exception("two\nlines")
    handler.close()
    before, finished, fault = service.entries
    tag = f" [run_id=night-2 attempt=a2 worker={socket.gethostname()}/{os.getpid()}]"
    assert before.message == "before setup"
    assert finished.message == "Run finished: gs://b/out/night-2" + tag
    assert fault.message.startswith("two\nlines" + tag + "\nTraceback")
    assert fault.trace.endswith("ValueError: a fault\n")
    # Should Beam fill this in one day, the three belong there.
    assert "custom_data" in {field.name for field in api.LogEntry.DESCRIPTOR.fields}
    assert not [entry for entry in service.entries if entry.HasField("custom_data")]


def test_stages_that_know_the_run_name_it(worker: tuple[Any, _LogService], tmp_path: Path) -> None:
    options = WriteOptions(str(tmp_path), "r", "a")
    handler, _ = worker
    stages: list[Any] = [
        stop._StopDoFn(options),
        transform._WriteShardsDoFn("rows", None, options, None),
        commit._CommitDoFn(options, None),  # type: ignore[arg-type]  # not run
    ]
    for stage in stages:
        handler.setFormatter(None)
        stage.setup()
        record = logging.LogRecord("x", logging.INFO, "", 1, "said", None, None)
        assert handler.format(record).startswith("said [run_id=r attempt=a worker=")


def test_a_process_that_is_no_worker_stays_as_it_is() -> None:
    before = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    name_run_in_logs(WriteOptions("out", "r", "a"))
    assert [(handler, handler.formatter) for handler in logging.getLogger().handlers] == before

"""Names run, attempt and worker in every line that a worker process logs."""

from __future__ import annotations

import logging
import os
import socket

from beam_jobs.base.config import WriteOptions


def worker_name() -> str:
    """Returns host and process id, such as ``embed-nightly-harness-7x2k/31``."""
    return f"{socket.gethostname()}/{os.getpid()}"


class RunFormatter(logging.Formatter):
    """Appends run, attempt and worker to a message, before a stack trace.

    They are a part of the text because Beam's handler sends nothing else: ``LogEntry.custom_data``, which
    Dataflow would show as fields, is not filled in by Python workers (Beam 2.77). A message keeps its
    beginning, by which alerts find it.
    """

    def __init__(self, options: WriteOptions) -> None:
        super().__init__()
        self._tag = f"[run_id={options.run_id} attempt={options.attempt_id} worker={worker_name()}]"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is Python's
        """Returns the message and the three."""
        return f"{super().formatMessage(record)} {self._tag}"


def name_run_in_logs(options: WriteOptions) -> None:
    """Adds the run to all further log lines of this worker process, those of libraries included.

    Does nothing where a process has no worker's log handler: there the console names the run.
    """
    from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler

    for handler in logging.getLogger().handlers:
        if isinstance(handler, FnApiLogRecordHandler):
            handler.setFormatter(RunFormatter(options))

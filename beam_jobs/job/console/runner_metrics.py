"""Jobs with remote workers: where to monitor them, and the counters that their runner reports here."""

from __future__ import annotations

import contextlib
import copy
import time
from collections import Counter
from typing import Any

from apache_beam.options.pipeline_options import FlinkRunnerOptions, GoogleCloudOptions, StandardOptions

from beam_jobs.base import metrics
from beam_jobs.base.units import count, format_bytes
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import STAGING_DIR

_POLL_SECONDS = 5.0
_LIST_SECONDS = 30.0


class RunnerMetrics:
    """The counters of a job, queried from its runner every few seconds at most.

    Some runners report them while a job runs (Dataflow), some when it has ended, some never.

    Args:
        result: what the runner returned when the job was started.
    """

    def __init__(self, result: Any) -> None:
        self._result = result
        self._asked = 0.0
        self._counts: dict[str, int] = {}

    def __call__(self) -> dict[str, int]:
        """Returns the counters, at most a few seconds old."""
        return self.ask() if time.monotonic() - self._asked >= _POLL_SECONDS else self._counts

    def ask(self) -> dict[str, int]:
        """Returns the current counters, as far as the runner reports them."""
        self._asked = time.monotonic()
        # A job must not fail because its counters could not be queried; they may be there next time.
        with contextlib.suppress(Exception):
            self._counts = _query(self._result)
        return self._counts


class WrittenFiles:
    """What is known of a job whose runner reports no counts: the files that its workers have written.

    Args:
        root: folder of the run.
    """

    def __init__(self, root: str) -> None:
        self._folder = filesystem.join(root, STAGING_DIR)
        self._listed = -_LIST_SECONDS
        self._line = "waiting for workers"

    def __call__(self) -> str:
        """Returns a part of the live line; the storage is listed at most twice a minute."""
        if time.monotonic() - self._listed >= _LIST_SECONDS:
            self._listed = time.monotonic()
            with contextlib.suppress(Exception):  # as above
                self._line = self._describe()
        return self._line

    def _describe(self) -> str:
        found = filesystem.list_files(self._folder).items()
        sizes = [size for path, size in found if path.endswith(".parquet")]
        if not sizes:
            return "waiting for workers"
        written = f"{count(len(sizes), 'file')} written, {format_bytes(sum(sizes))}"
        return f"{written}; the runner reports no counts"


def _query(result: Any) -> dict[str, int]:
    # A copy: Beam's portable runners cache the first answer in the result.
    counters = copy.copy(result).metrics().query().get("counters", [])
    found: Counter[str] = Counter()
    for counter in counters:  # one for each step that counts under a name
        if counter.key.metric.namespace == metrics.NAMESPACE:
            found[counter.key.metric.name] += int(counter.attempted or counter.committed or 0)
    return dict(found)


def monitoring_hint(options: Any, result: Any = None) -> str:
    """Returns one line that says where remote workers can be monitored.

    Args:
        options: Beam's pipeline options.
        result: what the runner returned when the job was started; None before.
    """
    runner = options.view_as(StandardOptions).runner.rpartition(".")[2]
    place = _place(runner.lower(), options, result)
    return (
        f"The workers of {runner} are other processes; monitor them {place}. Shown here is what the runner "
        "reports; some report counts only at the end. The counters: docs/how-to/monitoring.md."
    )


def _place(runner: str, options: Any, result: Any) -> str:
    if runner == "fnapirunner":
        return "in their logs"
    # A template that was written has no job yet.
    if runner == "dataflowrunner" and hasattr(result, "job_id") and getattr(result, "has_job", True):
        cloud = options.view_as(GoogleCloudOptions)
        return (
            f"at https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{result.job_id()}"
            f"?project={cloud.project}"
        )
    master = options.view_as(FlinkRunnerOptions).flink_master if runner == "flinkrunner" else None
    if master and not master.startswith("["):
        return f"in Flink's dashboard at {master if '://' in master else f'http://{master}'}"
    return "in the runner's own page or log"


def format_counters(counts: dict[str, int]) -> str:
    """Formats counters on one line, in the order of ``metrics.ALL``.

    >>> format_counters({"encoded_documents": 900, "input_bytes": 500})
    'input_bytes 500, encoded_documents 900'
    """
    named = [f"{name} {counts[name]:,}" for name in metrics.ALL if name in counts]
    return ", ".join(named) or "the runner reports none"


def describe_counters(counts: dict[str, int]) -> str:
    """Returns the line for the user: these are the runner's, the summary's come from receipts.

    >>> describe_counters({"read_documents": 2250})
    "read_documents 2,250 (the runner's own, not exact; the summary counts from receipts)"
    """
    note = " (the runner's own, not exact; the summary counts from receipts)" if counts else ""
    return format_counters(counts) + note

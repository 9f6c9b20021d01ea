"""Runs a plan on its runner and watches it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from beam_jobs import metrics, storage
from beam_jobs.errors import JobError
from beam_jobs.manifest import RunManifest
from beam_jobs.pipeline import JobPlan, build
from beam_jobs.previous.prepare import indexed
from beam_jobs.progress import LiveLine, close_tally, open_tally
from beam_jobs.run_folder import find_manifest

_POLL_SECONDS = 5.0


def run_plan(plan: JobPlan, options: Any, *, in_process: bool) -> RunManifest | None:
    """Runs a job and gives its manifest; None where the runner does not wait (a template was written).

    Raises:
        JobError: the job failed before it could write a manifest; the cause is its first line.
    """
    with indexed(plan.reuse):
        return _run_plan(plan, options, in_process=in_process)


def _run_plan(plan: JobPlan, options: Any, *, in_process: bool) -> RunManifest | None:
    tally = open_tally(plan.write.attempt_id)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, plan)
    root = storage.join(plan.write.output, plan.write.run_id)
    total_bytes = plan.summary.total_bytes if plan.read.limit is None else None
    error: Exception | None = None
    result: Any = None
    try:
        if in_process:
            with LiveLine(tally.read, total_bytes):
                result = pipeline.run()
                result.wait_until_finish()
        else:
            result = pipeline.run()
            with LiveLine(_MetricCounts(result), total_bytes):
                result.wait_until_finish()
    except Exception as caught:  # runners raise what they like; the manifest tells what really happened
        error = caught
    finally:
        close_tally(plan.write.attempt_id)
    manifest = find_manifest(root)
    if manifest is not None and manifest.attempt_id == plan.write.attempt_id:
        return manifest
    if error is not None:
        raise JobError(_explain(str(error), plan)) from error
    if result.state in (PipelineState.FAILED, PipelineState.CANCELLED):
        raise JobError(_explain(f"the runner says {result.state}.", plan))
    return None


def _explain(what: str, plan: JobPlan) -> str:
    text = what.strip().split("\n")[0]
    return (
        f"The job failed and wrote no run: {text}\n"
        f"Files under {storage.join(plan.write.output, plan.write.run_id)} are incomplete and are read by "
        f"nobody. To try again and go on with what was done: --run_id {plan.write.run_id}"
    )


class _MetricCounts:
    """Asks a runner for counters, not more often than it likes."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self._asked = 0.0
        self._counts: dict[str, int] = {}

    def __call__(self) -> dict[str, int]:
        if time.monotonic() - self._asked >= _POLL_SECONDS:
            self._asked = time.monotonic()
            # A job must not end because it could not be watched; there may be counts next time.
            with contextlib.suppress(Exception):
                self._counts = _query(self._result)
        return self._counts


def _query(result: Any) -> dict[str, int]:
    counters = result.metrics().query().get("counters", [])
    ours = [c for c in counters if c.key.metric.namespace == metrics.NAMESPACE]
    return {c.key.metric.name: int(c.attempted or c.committed or 0) for c in ours}

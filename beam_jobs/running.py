"""Runs a plan on its runner and watches it."""

from __future__ import annotations

import time
from typing import Any

import apache_beam as beam

from beam_jobs import metrics, storage
from beam_jobs.commit import find_manifest
from beam_jobs.errors import JobError
from beam_jobs.manifest import RunManifest
from beam_jobs.pipeline import JobPlan, build
from beam_jobs.progress import LiveLine, close_tally, open_tally

_POLL_SECONDS = 5.0


def run_plan(plan: JobPlan, options: Any, *, in_process: bool) -> RunManifest | None:
    """Runs a job and gives its manifest; None where the runner does not wait (a template was written).

    Raises:
        JobError: the job failed before it could write a manifest; the cause is its first line.
    """
    tally = open_tally(plan.write.attempt_id)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, plan)
    root = storage.join(plan.write.output, plan.write.run_id)
    error: Exception | None = None
    try:
        if in_process:
            with LiveLine(tally.read, plan.summary.total_bytes):
                pipeline.run().wait_until_finish()
        else:
            result = pipeline.run()
            with LiveLine(_MetricCounts(result), plan.summary.total_bytes):
                result.wait_until_finish()
    except Exception as caught:  # runners raise what they like; the manifest tells what really happened
        error = caught
    finally:
        close_tally(plan.write.attempt_id)
    manifest = find_manifest(root)
    if manifest is not None and manifest.attempt_id == plan.write.attempt_id:
        return manifest
    if error is not None:
        raise JobError(_explain(error, plan)) from error
    return None


def _explain(error: Exception, plan: JobPlan) -> str:
    text = str(error).strip().split("\n")[0]
    return (
        f"The job failed and wrote no run: {text}\n"
        f"Files under {storage.join(plan.write.output, plan.write.run_id)} are incomplete and are read by "
        f"nobody. To try again in the same folder: --run_id {plan.write.run_id}"
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
            self._counts = _query(self._result)
        return self._counts


def _query(result: Any) -> dict[str, int]:
    counters = result.metrics().query().get("counters", [])
    ours = [c for c in counters if c.key.metric.namespace == metrics.NAMESPACE]
    return {c.key.metric.name: int(c.attempted or c.committed or 0) for c in ours}

"""Runs a job plan on its runner and reports progress."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.runner import PipelineState

from beam_jobs.base.progress import close_tally, open_tally
from beam_jobs.errors import JobError, TooManyDeadError
from beam_jobs.job.console.console import Console
from beam_jobs.job.console.progress_line import LiveLine
from beam_jobs.job.console.runner_metrics import (
    RunnerMetrics,
    WrittenFiles,
    describe_counters,
    monitoring_hint,
)
from beam_jobs.job.flags.beam import addresses
from beam_jobs.pipeline.build import JobPlan, build
from beam_jobs.pipeline.incremental.plan import indexed
from beam_jobs.pipeline.write.dead_limit import STOPPED_EARLY
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import RunManifest
from beam_jobs.store.run_folder import find_manifest
from model_bundle.base.system_errors import explain_text

# How gRPC, Java and Python say that nobody answers at an address.
_UNREACHED = ("connection refused", "failed to connect", "refused the connection", "unreachable")


def run_plan(plan: JobPlan, options: Any, console: Console, *, in_process: bool) -> RunManifest | None:
    """Runs a job and returns its manifest, or None if the runner does not wait (as with a template).

    Args:
        plan: the resolved job.
        options: Beam's pipeline options.
        console: where progress is printed.
        in_process: whether the runner works in this process and returns once the job has ended.

    Raises:
        JobError: the job failed before it could write a manifest; its first line names the cause.
    """
    with indexed(plan.reuse):
        return _run_plan(plan, options, console, in_process=in_process)


def _run_plan(plan: JobPlan, options: Any, console: Console, *, in_process: bool) -> RunManifest | None:
    tally = open_tally(plan.write.attempt_id)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, plan)
    root = filesystem.join(plan.write.output, plan.write.run_id)
    total_bytes = plan.summary.total_bytes if plan.read.limit is None else None
    error: Exception | None = None
    result: Any = None
    try:
        if in_process:
            if plan.redistribute:
                console.print("workers", monitoring_hint(options))
            with LiveLine(tally.read, total_bytes, console):
                result = pipeline.run()
                result.wait_until_finish()
        else:
            result = pipeline.run()
            console.print("workers", monitoring_hint(options, result))
            if options.view_as(StandardOptions).no_wait_until_finish:
                return None
            with LiveLine(RunnerMetrics(result), total_bytes, console, waiting_for=WrittenFiles(root)):
                result.wait_until_finish()
    except Exception as caught:  # runners raise any type; the manifest decides whether the run succeeded
        error = caught
    finally:
        close_tally(plan.write.attempt_id)
    if plan.redistribute and result is not None:
        counts = RunnerMetrics(result).ask()
        console.print(
            "metrics", describe_counters(counts), facts={"counters": counts, "counted_by": "runner"}
        )
    manifest = find_manifest(root)
    if manifest is not None and manifest.attempt_id == plan.write.attempt_id:
        return manifest
    if error is not None:
        if STOPPED_EARLY in str(error):
            raise TooManyDeadError(_explain(_stopped_early(str(error)), plan, options)) from error
        raise JobError(_explain(str(error), plan, options)) from error
    if result.state in (PipelineState.FAILED, PipelineState.CANCELLED):
        raise JobError(_explain(f"the runner reported the state {result.state}.", plan, options))
    return None


def _explain(what: str, plan: JobPlan, options: Any) -> str:
    cause = name_address(cause_line(what), addresses(options))
    return (
        f"The job failed and wrote no run: {explain_text(cause) or cause}\n"
        f"Files under {filesystem.join(plan.write.output, plan.write.run_id)} are incomplete and no "
        f"reader opens them. To retry and reuse what was completed: --run_id {plan.write.run_id}"
    )


def _stopped_early(what: str) -> str:
    """Returns the message of ``StopAfterDead``, which a runner may put anywhere into its error."""
    line = next(line for line in what.splitlines() if STOPPED_EARLY in line)
    return line[line.index(STOPPED_EARLY) :].partition(" [while running")[0]


def name_address(cause: str, known: dict[str, str]) -> str:
    """Adds to a refused connection the flag that named its address, or all that name one.

    Args:
        cause: the error's line.
        known: addresses by flag.

    >>> name_address("Connection refused", {"--job_endpoint": "localhost:8099"})
    'Connection refused (--job_endpoint localhost:8099). Is a server listening there?'
    >>> name_address("no space left", {"--job_endpoint": "localhost:8099"})
    'no space left'
    """
    if not known or not any(mark in cause.lower() for mark in _UNREACHED):
        return cause
    ports = {flag: address.rpartition(":")[2] for flag, address in known.items()}
    named = [flag for flag, port in ports.items() if port.isdigit() and f":{port}" in cause] or list(known)
    places = ", ".join(f"{flag} {known[flag]}" for flag in named)
    return f"{cause.rstrip('.')} ({places}). Is a server listening there?"


def cause_line(what: str) -> str:
    r"""Returns the line of a runner's error that names the cause.

    >>> cause_line("no space left\nwhile writing")
    'no space left'
    >>> cause_line("Traceback (most recent call last):\n  File ...\nOSError: no space left")
    'OSError: no space left'
    >>> cause_line("<_Rendezvous of RPC that terminated with:\n\tstatus = UNAVAILABLE\n\tdetails = gone\n>")
    'status = UNAVAILABLE details = gone'
    """
    lines = [line.strip() for line in what.splitlines() if line.strip()] or ["the runner gave no reason"]
    if lines[0].startswith("Traceback"):
        return lines[-1]
    if lines[0].endswith("terminated with:") and len(lines) > 2:
        return " ".join(lines[1:3])
    return lines[0]

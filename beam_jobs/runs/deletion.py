"""Which runs can go, and their removal."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from beam_jobs.base.units import size
from beam_jobs.errors import UsageError
from beam_jobs.runs.listing import RunEntry, list_runs
from beam_jobs.store import arrow_files
from beam_jobs.store.manifest import FAILED_NAME, MANIFEST_NAME, RunManifest


@dataclass(frozen=True)
class Deletion:
    """Runs that go, and why each of the others stays."""

    goes: tuple[RunEntry, ...]
    stays: tuple[tuple[RunEntry, str], ...]


def plan_deletion(
    runs: Sequence[RunEntry], keep: int | None, min_age: timedelta, now: datetime | None = None
) -> Deletion:
    """Decides which runs can go.

    Failed and unfinished runs go, unless something was written to them within ``min_age``: a job may still be
    at work. Of the finished ones the newest ``keep`` stay, and always the latest and every run that one that
    stays needs.

    Args:
        runs: all of a root, the oldest first.
        keep: finished runs that stay; None keeps all of them.
        min_age: of runs without a manifest.
        now: the time to count from.
    """
    now = now or datetime.now(UTC)
    reasons: dict[str, str] = {}
    finished = [run for run in runs if run.state == "finished"]
    newest = finished if keep is None else finished[len(finished) - min(keep, len(finished)) :]
    for run in newest:
        reasons[run.run_id] = "finished" if keep is None else f"one of the newest {keep}"
    for run in runs:
        if run.is_latest or (finished and not any(r.is_latest for r in runs) and run is finished[-1]):
            reasons[run.run_id] = "the latest"
        elif run.state == "unreadable":
            reasons[run.run_id] = "its manifest cannot be read; look at it first"
        elif run.state == "unfinished" and now - run.when < min_age:
            reasons[run.run_id] = "written to lately; a job may still be at work"
    _keep_what_is_needed(runs, reasons)
    return Deletion(
        tuple(run for run in runs if run.run_id not in reasons),
        tuple((run, reasons[run.run_id]) for run in runs if run.run_id in reasons),
    )


def _keep_what_is_needed(runs: Sequence[RunEntry], reasons: dict[str, str]) -> None:
    """Adds the runs that others cannot be read without, and those that these need."""
    manifests = {run.run_id: run.manifest for run in runs}
    waiting = list(reasons)
    while waiting:
        run_id = waiting.pop()
        manifest = manifests[run_id]
        base = None if manifest is None else needed_run(manifest)
        if base is not None and base in manifests and base not in reasons:
            reasons[base] = f"{run_id} needs it"
            waiting.append(base)


def needed_run(manifest: RunManifest) -> str | None:
    """Returns the id of the run that another one, which holds changes only, cannot be read without."""
    if manifest.previous is None or manifest.emit != "changes":
        return None
    return manifest.previous.run_id


def delete_run(run: RunEntry) -> None:
    """Removes a run: its manifest first, so that it has stopped to exist when its files go."""
    names = (MANIFEST_NAME, FAILED_NAME)
    if not run.folder.startswith("gs://"):
        for name in names:
            Path(run.folder, name).unlink(missing_ok=True)
        shutil.rmtree(run.folder)
        return
    from beam_jobs.store import filesystem

    for path in (arrow_files.join(run.folder, name) for name in names):
        if filesystem.exists(path):
            filesystem.delete(path)
    filesystem.delete_folder(run.folder)


def delete(flags: Namespace, stream: TextIO) -> int:
    """Removes what can go, after a yes."""
    runs = list_runs(flags.place)
    plan = plan_deletion(runs, flags.keep, timedelta(hours=flags.min_age_hours))
    print("\n".join(_plan_lines(plan)), file=stream, flush=True)
    if flags.print_only or not plan.goes:
        return 0
    if not flags.yes and not _is_confirmed(plan, stream):
        print("Nothing was removed.", file=stream)
        return 0
    for run in plan.goes:
        delete_run(run)
        print(f"removed {run.folder}", file=stream, flush=True)
    return 0


def _is_confirmed(plan: Deletion, stream: TextIO) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("Nobody is there to ask: --yes removes these runs, --print_only only names them.")
    print(f"Remove {len(plan.goes)} runs for good? [y/N] ", end="", file=stream, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _plan_lines(plan: Deletion) -> list[str]:
    lines = [f"stays  {run.run_id}  ({why})" for run, why in plan.stays]
    lines += [f"goes   {run.run_id}  ({run.state}, {size(run.num_bytes)})" for run in plan.goes]
    total = size(sum(run.num_bytes for run in plan.goes))
    return [*lines, f"{len(plan.goes)} runs go, {total}; {len(plan.stays)} stay."]

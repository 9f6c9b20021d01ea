"""``runs ROOT delete``: decides which runs can be deleted, asks, and deletes them."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from beam_jobs.base.units import count, format_bytes
from beam_jobs.errors import UsageError
from beam_jobs.runs.listing import RunEntry, list_runs
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import FAILED_NAME, MANIFEST_NAME, RunManifest
from model_bundle.base.untrusted.printable import show


@dataclass(frozen=True)
class Deletion:
    """Runs to delete, and the reason each other run is kept for."""

    deleted: tuple[RunEntry, ...]
    kept: tuple[tuple[RunEntry, str], ...]


def plan_deletion(
    runs: Sequence[RunEntry], keep: int | None, min_age: timedelta, now: datetime | None = None
) -> Deletion:
    """Decides which runs can be deleted.

    Failed and unfinished runs are deleted, except unfinished ones written to within ``min_age``, whose job
    may still be running, and what these read. The newest ``keep`` finished runs are kept, and always
    the latest run and every run that a kept run depends on.

    Args:
        runs: all runs of a root, the oldest first.
        keep: number of finished runs to keep; None keeps all.
        min_age: age from which an unfinished run is deleted.
        now: the current time, by default that of the clock.
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
            reasons[run.run_id] = "its manifest cannot be read; inspect it first"
        elif run.state == "unfinished" and now - run.when < min_age:
            reasons[run.run_id] = "recently written to; its job may still be running"
    _keep_dependencies(runs, reasons)
    return Deletion(
        tuple(run for run in runs if run.run_id not in reasons),
        tuple((run, reasons[run.run_id]) for run in runs if run.run_id in reasons),
    )


def _keep_dependencies(runs: Sequence[RunEntry], reasons: dict[str, str]) -> None:
    """Adds the runs that kept runs depend on, transitively."""
    known = {run.run_id: run for run in runs}
    waiting = list(reasons)
    while waiting:
        run = known[waiting.pop()]
        base = None if run.manifest is None else needed_run(run.manifest)
        for needed in (*run.needs, *(() if base is None else (base,))):
            if needed in known and needed not in reasons:
                reasons[needed] = f"{run.run_id} needs it"
                waiting.append(needed)


def needed_run(manifest: RunManifest) -> str | None:
    """Returns the id of the run that a run of changes depends on; None for a complete run."""
    if manifest.previous is None or manifest.emit != "changes":
        return None
    return manifest.previous.run_id


def delete_run(run: RunEntry) -> None:
    """Deletes a run, its manifest first, so that no reader finds a run with missing files."""
    names = (MANIFEST_NAME, FAILED_NAME)
    if filesystem.is_local(run.folder):
        for name in names:
            Path(run.folder, name).unlink(missing_ok=True)
        shutil.rmtree(run.folder)
        return

    for path in (filesystem.join(run.folder, name) for name in names):
        if filesystem.exists(path):
            filesystem.delete(path)
    filesystem.delete_folder(run.folder)


def delete(flags: Namespace, stream: TextIO) -> int:
    """Prints which runs can be deleted and deletes them after confirmation."""
    min_age = timedelta(hours=flags.min_age_hours)
    plan = plan_deletion(list_runs(flags.place), flags.keep, min_age)
    show("\n".join(_plan_lines(plan)), stream)
    if flags.print_only or not plan.deleted:
        return 0
    if not flags.yes and not _is_confirmed(plan, stream):
        print("Nothing was deleted.", file=stream)
        return 0
    # While somebody made up their mind, a job may have started that reads one of these runs.
    now = {run.run_id for run in plan_deletion(list_runs(flags.place), flags.keep, min_age).deleted}
    for run in plan.deleted:
        if run.run_id not in now:
            print(f"kept {run.folder}, which is needed by now", file=stream, flush=True)
            continue
        delete_run(run)
        show(f"deleted {run.folder}", stream)
    return 0


def _is_confirmed(plan: Deletion, stream: TextIO) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            "No terminal to ask for confirmation: --yes deletes these runs, --print_only only lists them."
        )
    print(f"Permanently delete {count(len(plan.deleted), 'run')}? [y/N] ", end="", file=stream, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _plan_lines(plan: Deletion) -> list[str]:
    lines = [f"keep    {run.run_id}  ({why})" for run, why in plan.kept]
    lines += [f"delete  {run.run_id}  ({run.state}, {format_bytes(run.num_bytes)})" for run in plan.deleted]
    total = format_bytes(sum(run.num_bytes for run in plan.deleted))
    return [*lines, f"{count(len(plan.deleted), 'run')} to delete, {total}; {len(plan.kept):,} to keep."]

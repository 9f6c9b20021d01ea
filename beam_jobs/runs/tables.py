"""Lists of runs on a screen, and the question before some go."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TextIO

from beam_jobs.base.units import format_bytes
from beam_jobs.errors import UsageError
from beam_jobs.runs.deletion import Deletion, delete_run, plan_deletion
from beam_jobs.runs.listing import RunEntry, list_runs


def print_list(flags: Namespace, stream: TextIO) -> int:
    """Prints the runs below a root, the oldest first."""
    runs = list_runs(flags.place)
    if flags.format == "json":
        for run in runs:
            print(json.dumps(_as_json(run), ensure_ascii=False), file=stream)
    elif not runs:
        print(f"There are no runs in {flags.place}.", file=stream)
    else:
        print("\n".join(_table(runs)), file=stream)
    return 0


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
    lines += [f"goes   {run.run_id}  ({run.state}, {format_bytes(run.num_bytes)})" for run in plan.goes]
    total = format_bytes(sum(run.num_bytes for run in plan.goes))
    return [*lines, f"{len(plan.goes)} runs go, {total}; {len(plan.stays)} stay."]


def _table(runs: Sequence[RunEntry]) -> list[str]:
    rows: list[tuple[str, ...]] = [("run", "state", "when", "documents", "size", "bundle", "")]
    rows += [_cells(run) for run in runs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = {3, 4}
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(run: RunEntry) -> tuple[str, ...]:
    manifest = run.manifest
    documents = "" if manifest is None else f"{manifest.counts.num_written + manifest.counts.num_reused:,}"
    bundle = "" if manifest is None else str(manifest.bundle.get("name", ""))
    when = f"{run.when:%Y-%m-%d %H:%M}"
    latest = "latest" if run.is_latest else ""
    return run.run_id, run.state, when, documents, format_bytes(run.num_bytes), bundle, latest


def _as_json(run: RunEntry) -> dict[str, Any]:
    manifest = run.manifest
    counts = None if manifest is None else manifest.counts.model_dump(mode="json")
    return {
        "run_id": run.run_id,
        "folder": run.folder,
        "state": run.state,
        "when": run.when.isoformat(timespec="seconds"),
        "num_bytes": run.num_bytes,
        "is_latest": run.is_latest,
        "bundle": None if manifest is None else manifest.bundle,
        "counts": counts,
    }

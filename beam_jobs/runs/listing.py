"""``runs ROOT list``: finds and prints the runs below a root, finished or not."""

from __future__ import annotations

import json
import logging
import os
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from beam_jobs.base.units import format_bytes
from beam_jobs.errors import JobError, UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.latest import read_latest
from beam_jobs.store.manifest import (
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    FAILED_NAME,
    MANIFEST_NAME,
    NEEDS_PREFIX,
    STAGING_DIR,
    RunManifest,
)
from model_bundle.base.untrusted.printable import one_line, show

_logger = logging.getLogger(__name__)
State = Literal["finished", "failed", "unfinished", "unreadable"]
# A job writes at least one of these into its folder; other folders are not runs.
_OURS = (MANIFEST_NAME, FAILED_NAME)
_OUR_FOLDERS = (STAGING_DIR, EMBEDDINGS, CLASSES, DEAD_LETTERS)


@dataclass(frozen=True)
class RunEntry:
    """A run's folder.

    ``when`` is the time it finished, or of the last write if it did not. ``manifest`` is None if it is
    missing or unreadable. ``needs`` are the ids of runs that an unfinished one reads. ``num_bytes``
    is the total size of all files in the folder.
    """

    run_id: str
    folder: str
    state: State
    when: datetime
    num_bytes: int
    manifest: RunManifest | None
    is_latest: bool
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    num_bytes: int
    written_at: float


def list_runs(root: str) -> list[RunEntry]:
    """Lists the runs below a root, the oldest first.

    Args:
        root: local or remote. Folders that no job has written to are skipped.

    Raises:
        UsageError: the folder does not exist, or is itself a run.
    """
    root = root.rstrip("/") or "/"
    if any(filesystem.read_bytes(filesystem.join(root, name)) is not None for name in _OURS):
        raise UsageError(f"{root} is a run, not a root of runs. Name its parent folder.")
    found = {name: below for name, below in _tree(root).items() if _is_run(below)}
    latest = _latest(root)
    entries = [_entry(root, name, below, latest) for name, below in found.items()]
    return sorted(entries, key=lambda entry: (entry.when, entry.run_id))


def _tree(root: str) -> dict[str, dict[str, _File]]:
    """Returns the files of each folder in a root, keyed by relative path."""
    found: dict[str, dict[str, _File]] = defaultdict(dict)
    if not filesystem.is_local(root):
        for item in filesystem.list_remote(f"{root}/"):
            name, _, path = item.path.removeprefix(f"{root}/").partition("/")
            if path:
                found[name][path] = _File(item.num_bytes, item.written_at)
        return found
    if not Path(root).is_dir():
        raise UsageError(f"The folder {root} does not exist. Name the --output of your jobs.")
    for folder in Path(root).iterdir():
        if folder.is_dir() and not folder.is_symlink() and _looks_like_a_run(folder):
            found[folder.name] = _local_files(folder)
    return found


def _looks_like_a_run(folder: Path) -> bool:
    """Whether a folder may be a run; others are not searched."""
    return any((folder / name).exists() for name in (*_OURS, *_OUR_FOLDERS))


def _local_files(folder: Path) -> dict[str, _File]:
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            status = path.lstat()
            found[path.relative_to(folder).as_posix()] = _File(status.st_size, status.st_mtime)
    return found


def _is_run(below: dict[str, _File]) -> bool:
    return any(path in _OURS or path.partition("/")[0] in _OUR_FOLDERS for path in below)


def _latest(root: str) -> str | None:
    try:
        latest = read_latest(root)
    except UsageError as error:  # a listing helps to repair that
        _logger.warning("%s", error)
        return None
    return None if latest is None else latest.run_id


def _entry(root: str, name: str, below: dict[str, _File], latest: str | None) -> RunEntry:
    folder = filesystem.join(root, name)
    state, manifest = _state(folder, below)
    written = max((file.written_at for file in below.values()), default=0.0)
    when = datetime.fromtimestamp(written, UTC)
    if manifest is not None:
        when = datetime.fromisoformat(manifest.finished_at)
    num_bytes = sum(file.num_bytes for file in below.values())
    needs = _needs(folder, below) if state == "unfinished" else ()
    return RunEntry(name, folder, state, when, num_bytes, manifest, name == latest, needs)


def _needs(folder: str, below: dict[str, _File]) -> tuple[str, ...]:
    """Returns the ids of the runs that attempts at an unfinished run have noted."""
    needs: set[str] = set()
    for path in below:
        if path.startswith(f"{STAGING_DIR}/{NEEDS_PREFIX}"):
            data = filesystem.read_bytes(filesystem.join(folder, path))  # gone if the run finishes now
            needs.update([] if data is None else json.loads(data))
    return tuple(sorted(needs))


def _state(folder: str, below: dict[str, _File]) -> tuple[State, RunManifest | None]:
    name = next((name for name in _OURS if name in below), None)
    if name is None:
        return "unfinished", None
    path = filesystem.join(folder, name)
    try:
        manifest = RunManifest.from_bytes(filesystem.read_bytes(path) or b"", path)
    except JobError:  # the listing shows the state; opening the run tells the reason
        return "unreadable", None
    return ("failed" if manifest.failure is not None else "finished"), manifest


def print_list(flags: Namespace, stream: TextIO) -> int:
    """Prints the runs below a root, the oldest first."""
    runs = list_runs(flags.place)
    if flags.format == "json":
        for run in runs:
            show(json.dumps(_as_json(run), ensure_ascii=False), stream)
    elif not runs:
        show(f"There are no runs in {flags.place}.", stream)
    else:
        show("\n".join(_table(runs)), stream)
    return 0


def _table(runs: Sequence[RunEntry]) -> list[str]:
    rows: list[tuple[str, ...]] = [("run", "state", "when", "documents", "size", "bundle", "")]
    rows += [tuple(map(one_line, _cells(run))) for run in runs]
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

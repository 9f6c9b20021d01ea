"""A run of changes together with the runs that complete it: which they are, and which of their rows count.

An id that a run lists as changed or removed hides the rows of that id in all runs before it. What is left are
the rows that the same job would have written with ``--emit all``. Why: docs/decisions/chains.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.digest import check_digest
from beam_jobs.store.finished_run import FinishedRun, find_run
from beam_jobs.store.manifest import MANIFEST_NAME, PreviousEntry, RunFile, RunManifest

_ALONE = "For the rows of the changes alone: --only_this_run (open_run: only_this_run=True)."


def find_collection(path: str, *, only_this_run: bool = False) -> FinishedRun:
    """Finds a finished run and, if it holds only changes, the runs that complete it.

    Args:
        path: see ``find_run``.
        only_this_run: take a run of changes for its own rows.

    Raises:
        UsageError, JobError: see ``find_run`` and ``runs_before``.
    """
    run = find_run(path)
    return run if only_this_run else with_chain(run)


def with_chain(run: FinishedRun) -> FinishedRun:
    """Returns a run together with those that complete it.

    Raises:
        UsageError, JobError: see ``runs_before``.
    """
    return replace(run, before=runs_before(run))


def runs_before(run: FinishedRun) -> tuple[FinishedRun, ...]:
    """Finds the runs that complete a run of changes, the newest first; none for a complete run.

    Each is looked for beside the run that names it, and then where it was. Its manifest, and with it the
    digest of every file, must be the one that the changes are relative to.

    Raises:
        UsageError: one of them is missing or replaced, was made with another bundle or other settings, or
            they name each other in a circle.
        JobError: a manifest is damaged.
    """
    found: list[FinishedRun] = []
    seen = {run.manifest.run_id}
    newest = run
    while newest.manifest.emit == "changes":
        entry = newest.manifest.previous
        if entry is None:
            raise UsageError(f"{newest.folder} holds only changes, but names no previous run. {_ALONE}")
        if entry.run_id in seen:
            raise UsageError(f"{newest.folder} and the runs before it name each other in a circle. {_ALONE}")
        seen.add(entry.run_id)
        newest = _named(newest, entry)
        _check_same_model(run.manifest, newest)
        found.append(newest)
    return tuple(found)


def _named(run: FinishedRun, entry: PreviousEntry) -> FinishedRun:
    sibling = filesystem.join(run.folder.rpartition("/")[0], entry.run_id)
    for folder in dict.fromkeys((sibling, entry.root)):
        path = filesystem.join(folder, MANIFEST_NAME)
        data = filesystem.read_bytes(path)
        if data is None:
            continue
        digest = hashlib.sha256(data).hexdigest()
        manifest = RunManifest.from_bytes(data, path)
        if manifest.run_id != entry.run_id or entry.sha256 not in ("", digest):
            raise UsageError(
                f"{run.folder} holds only what changed since the run {entry.run_id}, but {folder} holds "
                f"another manifest (run {manifest.run_id}, sha256 {digest}, expected "
                f"{entry.sha256 or entry.run_id}): the run was replaced or edited. Restore it. {_ALONE}"
            )
        return FinishedRun(folder, manifest)
    raise UsageError(
        f"{run.folder} holds only what changed since the previous run, {entry.run_id}, which does not exist. "
        f"Looked for it at {sibling} and {entry.root}. Restore it. {_ALONE}"
    )


def _check_same_model(newest: RunManifest, run: FinishedRun) -> None:
    own, other = newest, run.manifest
    for what, ours, theirs in (
        ("bundle", own.bundle.get("digest"), other.bundle.get("digest")),
        ("settings", own.settings_digest, other.settings_digest),
    ):
        if ours != theirs:
            raise UsageError(
                f"{run.folder}, which completes the run {own.run_id}, was made with another {what} (digest "
                f"{theirs}, expected {ours}), so their rows are not one collection. {_ALONE}"
            )


class HiddenIds:
    """The ids whose rows do not count, by run; takes about 200 bytes for each id that changed.

    Args:
        run: the newest run, with those before it.

    Raises:
        JobError: a file of changes is missing or differs from its manifest.
    """

    def __init__(self, run: FinishedRun) -> None:
        self._chain = run.chain

    @cached_property
    def _newest(self) -> dict[str, int]:
        """The place in the chain of the newest run that changed or removed an id."""
        found: dict[str, int] = {}
        for place, part in enumerate(self._chain[1:], 1):  # the oldest first
            for file in part.change_files:
                found.update(dict.fromkeys(replaced_ids(part, file), place))
        return found

    def live(self, place: int, ids: Sequence[str] | pa.Array) -> np.ndarray:
        """Returns bool[ids]: whether the rows of each id count that the run at a place of the chain holds."""
        names: Iterable[str] = ids.to_pylist() if isinstance(ids, pa.Array) else ids
        if place == len(self._chain) - 1:
            return np.ones(len(ids), dtype=bool)
        newest = self._newest
        return np.fromiter((newest.get(name, -1) <= place for name in names), dtype=bool, count=len(ids))

    def condition(self, place: int) -> pc.Expression | None:
        """Returns the same as a condition on rows; None if all of them count."""
        hidden = [name for name, newest in self._newest.items() if newest > place]
        return ~pc.field("doc_id").isin(pa.array(hidden, pa.string())) if hidden else None


def replaced_ids(run: FinishedRun, file: RunFile) -> Iterator[str]:
    """Yields the ids that a file lists as changed or removed.

    Raises:
        JobError: the file is missing or has another digest.
    """
    path = run.path_of(file)
    check_digest(path, file.sha256)
    with filesystem.open_file(path) as stream, pq.ParquetFile(stream, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(columns=["doc_id", "change"]):
            yield from (
                batch.column("doc_id").filter(pc.not_equal(batch.column("change"), "added")).to_pylist()
            )

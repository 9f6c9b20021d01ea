"""Which documents of a table to replace, so that it holds a run: by its mark and what is left of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain as joined

import duckdb
import pyarrow as pa

from beam_jobs.errors import JobError
from beam_jobs.store import filesystem
from beam_jobs.store.chain import replaced_ids, with_chain
from beam_jobs.store.finished_run import FinishedRun, find_run
from beam_jobs.sync.documents import (
    DocumentIds,
    differing_documents,
    missing_documents,
    rows_of,
    whole_documents,
)
from beam_jobs.sync.mark import Mark, MarkedRun, marked
from beam_jobs.sync.store import Store

# Ids that one statement deletes.
_MOST_IDS = 10_000


@dataclass(frozen=True)
class Step:
    """One batch: ids of which all rows are deleted, and rows that are added."""

    gone: Sequence[str]
    rows: pa.RecordBatch | None


@dataclass(frozen=True)
class Plan:
    """What to do.

    Args:
        reason: why, for the person who reads the output.
        steps: the batches.
        trusted: whether the table's mark stays true of rows that no step touches.
        num_rows: rows to write; None if unknown.
    """

    reason: str
    steps: Iterator[Step] = field(default_factory=lambda: iter(()))
    trusted: bool = True
    num_rows: int | None = None


def make_plan(run: FinishedRun, mark: Mark | None, store: Store, ids: DocumentIds, *, anew: bool) -> Plan:
    """Chooses between the changes since the run that the table holds, a comparison with it, and everything.

    Args:
        run: the run, with those before it.
        mark: the table's; None before its first run.
        store: the table.
        ids: the run's documents.
        anew: write everything in any case.

    Raises:
        JobError: a file of a run is damaged.
    """
    if mark is None:
        return Plan("the first run", _everything(run, store, ids, is_empty=True), num_rows=ids.num_rows)
    reason = "as asked by --everything" if anew else _distrusted(mark, run)
    if reason is None and mark.current is not None:
        newer = _newer_runs(run, mark.current)
        if newer is not None:
            num_rows = sum(file.num_rows for part in (*newer, run) for file in part.row_files)
            return Plan(f"the changes since {mark.current.run_id}", _changes(run, newer), num_rows=num_rows)
        earlier = _still_there(run, mark.current)
        if earlier is not None:
            try:
                differing = differing_documents(earlier, run)
            except duckdb.Error:
                reason = "columns of a type that cannot be compared"
            else:
                steps = joined(
                    _replacing(rows_of(run, differing)),
                    _deleting(missing_documents(earlier, differing, ids)),
                )
                return Plan(f"what differs from {mark.current.run_id}", steps)
        else:
            reason = f"the run {mark.current.run_id}, which the table holds, does not exist any more"
    return Plan(
        f"everything: {reason}",
        _everything(run, store, ids, is_empty=False),
        trusted=False,
        num_rows=ids.num_rows,
    )


def _distrusted(mark: Mark, run: FinishedRun) -> str | None:
    """Returns why rows may be neither those of the mark's run nor of this one; None if they are."""
    if mark.current is None:
        return "its first run is not complete"
    if mark.target is not None and mark.target.sha256 != marked(run).sha256:
        return f"it was being brought to another run, {mark.target.run_id}"
    return None


def _newer_runs(run: FinishedRun, held: MarkedRun) -> tuple[FinishedRun, ...] | None:
    """Returns the runs between one of changes and the one held, newest first; None if there is no chain."""
    for at, part in enumerate(run.before):
        if part.manifest.run_id == held.run_id and marked(part).sha256 == held.sha256:
            return run.before[:at]
    return None


def _still_there(run: FinishedRun, held: MarkedRun) -> FinishedRun | None:
    """Finds the run that the table holds, beside the new one or where it was."""
    sibling = filesystem.join(run.folder.rpartition("/")[0], held.run_id)
    for folder in dict.fromkeys((sibling, held.folder)):
        try:
            found = with_chain(find_run(folder))
        except JobError:
            continue
        if marked(found).sha256 == held.sha256:
            return found
    return None


def _everything(run: FinishedRun, store: Store, ids: DocumentIds, *, is_empty: bool) -> Iterator[Step]:
    for rows in whole_documents(rows_of(run)):
        yield Step([] if is_empty else _ids_of(rows), rows)
    if not is_empty:
        gone = [name for names in store.doc_ids() for name in _without(names, ids)]
        yield from _deleting(iter(dict.fromkeys(gone)))


def _without(names: Sequence[str], ids: DocumentIds) -> Iterator[str]:
    return (name for name, is_there in zip(names, ids.has(names), strict=True) if not is_there)


def _changes(run: FinishedRun, newer: tuple[FinishedRun, ...]) -> Iterator[Step]:
    own = replace(run, before=newer)
    gone = {name for part in own.chain for file in part.change_files for name in replaced_ids(part, file)}
    for step in _replacing(rows_of(own)):
        gone.difference_update(step.gone)
        yield step
    yield from _deleting(iter(sorted(gone)))


def _replacing(batches: Iterator[pa.RecordBatch]) -> Iterator[Step]:
    for rows in whole_documents(batches):
        yield Step(_ids_of(rows), rows)


def _deleting(names: Iterator[str]) -> Iterator[Step]:
    part: list[str] = []
    for name in names:
        part.append(name)
        if len(part) == _MOST_IDS:
            yield Step(part, None)
            part = []
    if part:
        yield Step(part, None)


def _ids_of(rows: pa.RecordBatch) -> list[str]:
    return list(rows.column("doc_id").unique().to_pylist())

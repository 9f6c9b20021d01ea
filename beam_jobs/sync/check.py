"""``--check``: whether a table holds a run, by counts and by the vectors of a sample of documents."""

from __future__ import annotations

import numpy as np

from beam_jobs.base.units import count
from beam_jobs.store.batches import matrix
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.sync.documents import DocumentIds, rows_of
from beam_jobs.sync.mark import marked
from beam_jobs.sync.store import Layout, RowKey, Store

_SAMPLE = 200
# Of a number of a vector of length 1, in a store that normalises vectors.
_ROUNDING = 1e-6


def check(run: FinishedRun, layout: Layout, store: Store) -> list[str]:
    """Compares a table with a run; returns what differs, a line each.

    Args:
        run: the run, with those before it.
        layout: its columns.
        store: the table.
    """
    mark, target = store.read_mark(), marked(run)
    if mark is None:
        return [f"{store.where} does not exist: nothing was ever written to it"]
    found = []
    if mark.target is not None:
        found.append(f"the sync to the run {mark.target.run_id} has not finished")
    elif mark.current is not None and mark.current.sha256 != target.sha256:
        found.append(f"it holds the run {mark.current.run_id}, expected {target.run_id}")
    ids = DocumentIds(run, layout.place)
    num_rows = store.num_rows()
    if num_rows != ids.num_rows:
        found.append(f"it has {count(num_rows, 'row')}, expected {ids.num_rows:,}")
    expected = _vectors(run, layout, ids)
    there = store.vectors_of(sorted({name for name, _ in expected}), layout)
    wrong = sorted(
        {key[0] for key in expected.keys() | there.keys() if not _same(expected, there, key, store.is_exact)}
    )
    if wrong:
        found.append(
            f"of {count(len({name for name, _ in expected}), 'document')} compared, {len(wrong)} have other "
            f"vectors or rows, such as {wrong[0]!r}"
        )
    return found


def _vectors(run: FinishedRun, layout: Layout, ids: DocumentIds) -> dict[RowKey, list[np.ndarray]]:
    found: dict[RowKey, list[np.ndarray]] = {}
    for rows in rows_of(run, ids.sample(_SAMPLE)):
        columns = [matrix(rows.column(name), dim) for name, dim in layout.dimensions.items()]
        places = rows.column(layout.place).to_pylist() if layout.place else [0] * rows.num_rows
        for at, key in enumerate(zip(rows.column("doc_id").to_pylist(), places, strict=True)):
            found[key] = [column[at] for column in columns]
    return found


def _same(
    one: dict[RowKey, list[np.ndarray]], other: dict[RowKey, list[np.ndarray]], key: RowKey, is_exact: bool
) -> bool:
    if key not in one or key not in other:
        return False
    pairs = list(zip(one[key], other[key], strict=True))
    if is_exact:
        return all(np.array_equal(a, b) for a, b in pairs)
    return all(np.allclose(_unit(a), _unit(b), rtol=0, atol=_ROUNDING) for a, b in pairs)


def _unit(vector: np.ndarray) -> np.ndarray:
    wide = vector.astype(np.float64)
    return np.asarray(wide / max(float(np.linalg.norm(wide)), np.finfo(np.float64).tiny))

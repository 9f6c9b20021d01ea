"""Finds the rows nearest to query vectors in one pass over a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.search.where import Condition
from beam_jobs.store.batches import matrix, read_batches
from beam_jobs.store.finished_run import FinishedRun
from model_bundle.bundle.specs import Similarity

# Lower bound on norms, so that a zero vector has the cosine 0 with everything.
_TINY = 1e-30


@dataclass(frozen=True)
class Neighbour:
    """A document with the similarity and ``place`` (file index, row index) of its best row."""

    doc_id: str
    similarity: float
    place: tuple[int, int]


def nearest(
    run: FinishedRun,
    queries: np.ndarray,
    top: int,
    *,
    column: str,
    condition: Condition | None = None,
    similarity: Similarity = Similarity.COSINE,
) -> list[list[Neighbour]]:
    """Finds the documents nearest to each query, reading the run once.

    Memory is bounded by a few batches of rows, whatever the size of the run.

    Args:
        run: a finished run.
        queries: float32[queries, dim].
        top: number of documents per query, each ranked by its best window or word.
        column: the vector column.
        condition: only rows that satisfy it are considered.
        similarity: how vectors are compared.

    Returns:
        For each query, its neighbours, the nearest first; fewer than ``top`` if there are fewer documents.

    Raises:
        JobError: a file of the run is missing or damaged.
    """
    best = [_Best(top) for _ in queries]
    columns = ("doc_id", column, *(() if condition is None else condition.columns))
    for part in read_batches(run, tuple(dict.fromkeys(columns))):
        rows = np.arange(part.rows.num_rows)
        if condition is not None:
            rows = np.flatnonzero(condition.mask(part.rows))
        if len(rows) == 0:
            continue
        vectors = matrix(part.rows.column(column), queries.shape[1])
        ids = part.rows.column("doc_id")
        if len(rows) < part.rows.num_rows:
            vectors, ids = vectors[rows], ids.take(pa.array(rows))
        starts = _documents(ids)
        for found, scores in zip(best, similarities(vectors, queries, similarity), strict=True):
            for row in found.candidates(scores, starts, ids):
                place = (part.file_index, int(part.row_numbers[rows[row]]))
                found.add(Neighbour(ids[int(row)].as_py(), float(scores[row]), place))
    return [found.sorted() for found in best]


def similarities(vectors: np.ndarray, queries: np.ndarray, similarity: Similarity) -> np.ndarray:
    """Compares rows with queries; more is nearer.

    Args:
        vectors: float32[rows, dim].
        queries: float32[queries, dim].
        similarity: the cosine, the dot product, or the negative distance.

    Returns:
        float32[queries, rows].
    """
    if similarity is Similarity.DOT:
        return np.asarray(queries @ vectors.T)
    if similarity is Similarity.COSINE:
        units = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), _TINY)
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        return np.asarray((units.astype(np.float32) @ vectors.T) / np.maximum(norms, _TINY))
    found = np.empty((len(queries), len(vectors)), np.float32)
    for row, query in zip(found, queries, strict=True):
        # Not from norms and products: the distance of near vectors would be a rounding error.
        difference = vectors - query
        if similarity is Similarity.MANHATTAN:
            row[:] = -np.abs(difference).sum(axis=1)
        else:
            row[:] = -np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return found


def _documents(ids: pa.Array) -> np.ndarray:
    """Returns the index of each document's first row; its rows are contiguous."""
    changes = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _order(neighbour: Neighbour) -> tuple[float, tuple[int, int]]:
    """Sort key: the nearest first, ties by position in the run."""
    return -neighbour.similarity, neighbour.place


class _Best:
    """The best documents so far for one query."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._found: dict[str, Neighbour] = {}
        self._worst = -np.inf

    def candidates(self, scores: np.ndarray, starts: np.ndarray, ids: pa.Array) -> Iterator[int]:
        """Yields the rows of a batch that may be among the best: one per document, the best first."""
        by_document = np.maximum.reduceat(scores, starts)
        hopeful = np.flatnonzero(by_document > self._worst)
        if len(hopeful) > self._top:
            best = hopeful[np.argpartition(-by_document[hopeful], self._top - 1)[: self._top]]
            # Of documents with one id only one counts, and others come after them.
            if len(ids.take(pa.array(starts[best])).unique()) == self._top:
                hopeful = best
        ends = np.append(starts[1:], len(scores))
        for document in sorted(hopeful, key=lambda d: (-by_document[d], d)):
            start = int(starts[document])
            yield start + int(np.argmax(scores[start : int(ends[document])]))

    def add(self, neighbour: Neighbour) -> None:
        """Adds a document, or replaces its row by a better one."""
        known = self._found.get(neighbour.doc_id)
        if known is not None and known.similarity >= neighbour.similarity:
            return
        self._found[neighbour.doc_id] = neighbour
        if len(self._found) > self._top:
            del self._found[max(self._found.values(), key=_order).doc_id]
        if len(self._found) == self._top:
            self._worst = min(neighbour.similarity for neighbour in self._found.values())

    def sorted(self) -> list[Neighbour]:
        """Returns the documents, the nearest first."""
        return sorted(self._found.values(), key=_order)

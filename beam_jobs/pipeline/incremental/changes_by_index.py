"""Finds added, changed and removed documents through an index, for workers on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_jobs.errors import JobError
from beam_jobs.pipeline.incremental.previous_documents import (
    PreviousDocuments,
    documents_of,
    id_digests,
    names_at,
    pair_digests,
)
from beam_jobs.pipeline.incremental.previous_rows import by_group
from beam_jobs.store.receipt import Receipt

ADDED, CHANGED, REMOVED = "added", "changed", "removed"
CHANGES_SCHEMA = pa.schema(
    [pa.field("doc_id", pa.string(), nullable=False), pa.field("change", pa.string(), nullable=False)]
)
_SENTINEL = "all receipts are in"


class FindChanges(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Compares all written rows with those of an earlier run.

    Runs on the machine with the index; takes the receipts of the rows and returns record batches of
    ``CHANGES_SCHEMA``. Applying the changes to the earlier rows gives the rows of a complete new run.

    Args:
        documents_folder: index folder, see ``PreviousDocuments``.
    """

    def __init__(self, documents_folder: str) -> None:
        super().__init__()
        self._documents_folder = documents_folder

    def expand(self, receipts: Any) -> Any:
        """Builds the step."""
        sentinel = receipts.pipeline | "Sentinel" >> beam.Create([_SENTINEL])  # PCollection[str]
        paths = receipts | "Paths" >> beam.Map(_path_of)  # PCollection[str]
        return (
            (paths, sentinel)
            | "WithSentinel" >> beam.Flatten()  # PCollection[str]
            | "ToOneKey" >> beam.Map(_to_one_key)  # PCollection[tuple[int, str]]
            | "Gather" >> beam.GroupByKey()  # PCollection[tuple[int, Iterable[str]]]
            | "Compare" >> beam.ParDo(_CompareDoFn(self._documents_folder))  # PCollection[pa.RecordBatch]
        )


def _path_of(receipt: Receipt) -> str:
    return receipt.path


def _to_one_key(path: str) -> tuple[int, str]:
    return 0, path


class _CompareDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Opens the index and yields changes."""

    def __init__(self, documents_folder: str) -> None:
        self._documents_folder = documents_folder

    def process(self, element: tuple[int, Iterable[str]]) -> Iterator[pa.RecordBatch]:
        paths = sorted(path for path in element[1] if path != _SENTINEL)
        for names, change in find_changes(PreviousDocuments(self._documents_folder), paths):
            columns = [pa.array(names, pa.string()), pa.array([change] * len(names), pa.string())]
            yield pa.RecordBatch.from_arrays(columns, schema=CHANGES_SCHEMA)


def find_changes(previous: PreviousDocuments, paths: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yields ids and their change, each id once.

    An id is ``added`` if only the new rows have it, ``removed`` if only the earlier rows have it, and
    ``changed`` if its texts differ.

    Args:
        previous: the earlier documents, with those skipped as unchanged.
        paths: files with the new rows.

    Raises:
        JobError: several documents have the same id and some of them were skipped.
    """
    comparison = _Comparison(previous)
    for path in paths:
        for _, documents in documents_of(path):
            yield from comparison.add(documents.ids, documents.text_digests)
    yield from comparison.finish()


class _Comparison:
    """Records which of the earlier documents occur again."""

    def __init__(self, previous: PreviousDocuments) -> None:
        self._previous = previous
        num_pairs, num_ids = len(previous.pairs), len(previous.ids)
        self._pair_seen = previous.skipped_pairs[:num_pairs] > 0
        self._id_seen = previous.skipped_ids[:num_ids] > 0
        self._reported = np.zeros(num_ids, dtype=bool)
        self._added: set[str] = set()

    def add(self, ids: Sequence[str], text_digests: np.ndarray) -> Iterator[tuple[list[str], str]]:
        """Adds new documents; yields ids that were added or changed."""
        pairs = self._previous.pairs.find(pair_digests(ids, text_digests))
        places = self._previous.ids.find(id_digests(ids))
        self._pair_seen[pairs[pairs >= 0]] = True
        self._id_seen[places[places >= 0]] = True
        added = list(dict.fromkeys(ids[int(at)] for at in np.flatnonzero(places < 0)))
        added = [name for name in added if name not in self._added]
        self._added.update(added)
        if added:
            yield added, ADDED
        changed = np.flatnonzero((places >= 0) & (pairs < 0))
        yield from self._report([ids[int(at)] for at in changed], places[changed], CHANGED)

    def finish(self) -> Iterator[tuple[list[str], str]]:
        """Yields the changes of earlier documents that do not occur again."""
        gone = self._previous.pairs.places[np.flatnonzero(~self._pair_seen)]
        for (file, group), part in by_group(gone).items():
            names = names_at(self._previous.pairs.files[file], group, gone[part, 2])
            places = self._previous.ids.find(id_digests(names))
            seen = self._id_seen[places]
            for change, which in ((CHANGED, np.flatnonzero(seen)), (REMOVED, np.flatnonzero(~seen))):
                yield from self._report([names[at] for at in which], places[which], change)

    def _report(
        self, names: Sequence[str], places: np.ndarray, change: str
    ) -> Iterator[tuple[list[str], str]]:
        _, first = np.unique(places, return_index=True)
        fresh = [at for at in np.sort(first) if not self._reported[places[at]]]
        self._reported[places[fresh]] = True
        skipped = [names[at] for at in fresh if self._previous.skipped_ids[places[at]]]
        if skipped:
            raise JobError(
                f"--emit changes: several documents have the id {skipped[0]!r}, and only some of them "
                "changed, so replacing rows by id would lose one. Give every document a unique id, or use "
                "--emit all."
            )
        if fresh:
            yield [names[at] for at in fresh], change

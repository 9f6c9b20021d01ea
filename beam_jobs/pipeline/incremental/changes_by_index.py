"""What is new, changed or gone since an earlier run; who applies it has the rows of a complete new run."""

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
    """Compares the rows that were written with those of an earlier run, when all are there.

    For a worker on the machine that the index is on; takes the receipts of the rows and gives record batches
    of ``CHANGES_SCHEMA``.

    Args:
        documents_folder: see ``PreviousDocuments``.
    """

    def __init__(self, documents_folder: str) -> None:
        super().__init__()
        self._known_folder = documents_folder

    def expand(self, receipts: Any) -> Any:
        """Wires the step."""
        sentinel = receipts.pipeline | "Sentinel" >> beam.Create([_SENTINEL])  # PCollection[str]
        paths = receipts | "Paths" >> beam.Map(_path_of)  # PCollection[str]
        return (
            (paths, sentinel)
            | "WithSentinel" >> beam.Flatten()  # PCollection[str]
            | "ToOneKey" >> beam.Map(_to_one_key)  # PCollection[tuple[int, str]]
            | "Gather" >> beam.GroupByKey()  # PCollection[tuple[int, Iterable[str]]]
            | "Compare" >> beam.ParDo(_CompareDoFn(self._known_folder))  # PCollection[pa.RecordBatch]
        )


def _path_of(receipt: Receipt) -> str:
    return receipt.path


def _to_one_key(path: str) -> tuple[int, str]:
    return 0, path


class _CompareDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Opens the index."""

    def __init__(self, documents_folder: str) -> None:
        self._known_folder = documents_folder

    def process(self, element: tuple[int, Iterable[str]]) -> Iterator[pa.RecordBatch]:
        paths = sorted(path for path in element[1] if path != _SENTINEL)
        for names, change in find_changes(PreviousDocuments(self._known_folder), paths):
            columns = [pa.array(names, pa.string()), pa.array([change] * len(names), pa.string())]
            yield pa.RecordBatch.from_arrays(columns, schema=CHANGES_SCHEMA)


def find_changes(known: PreviousDocuments, paths: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Returns ids and what happened to them, each id once.

    An id is ``added`` where only the new rows have it, ``removed`` where only the earlier ones have, and
    ``changed`` where the texts that it stands for are not the same.

    Args:
        known: the earlier rows, with what was skipped since it is unchanged.
        paths: files with the new rows.

    Raises:
        JobError: an id stands for several documents, of which some were skipped.
    """
    comparison = _Comparison(known)
    for path in paths:
        for _, documents in documents_of(path):
            yield from comparison.add(documents.ids, documents.text_digests)
    yield from comparison.finish()


class _Comparison:
    """Notes which of the earlier documents were seen again."""

    def __init__(self, known: PreviousDocuments) -> None:
        self._known = known
        num_pairs, num_ids = len(known.pairs), len(known.ids)
        self._pair_seen = known.skipped_pairs[:num_pairs] > 0
        self._id_seen = known.skipped_ids[:num_ids] > 0
        self._told = np.zeros(num_ids, dtype=bool)
        self._added: set[str] = set()

    def add(self, ids: Sequence[str], text_digests: np.ndarray) -> Iterator[tuple[list[str], str]]:
        """Takes new documents; tells which ids are added or changed."""
        pairs = self._known.pairs.find(pair_digests(ids, text_digests))
        places = self._known.ids.find(id_digests(ids))
        self._pair_seen[pairs[pairs >= 0]] = True
        self._id_seen[places[places >= 0]] = True
        added = list(dict.fromkeys(ids[int(at)] for at in np.flatnonzero(places < 0)))
        added = [name for name in added if name not in self._added]
        self._added.update(added)
        if added:
            yield added, ADDED
        changed = np.flatnonzero((places >= 0) & (pairs < 0))
        yield from self._tell([ids[int(at)] for at in changed], places[changed], CHANGED)

    def finish(self) -> Iterator[tuple[list[str], str]]:
        """Tells of earlier documents that were not seen again."""
        gone = self._known.pairs.places[np.flatnonzero(~self._pair_seen)]
        for (file, group), part in by_group(gone).items():
            names = names_at(self._known.pairs.files[file], group, gone[part, 2])
            places = self._known.ids.find(id_digests(names))
            seen = self._id_seen[places]
            for change, which in ((CHANGED, np.flatnonzero(seen)), (REMOVED, np.flatnonzero(~seen))):
                yield from self._tell([names[at] for at in which], places[which], change)

    def _tell(self, names: Sequence[str], places: np.ndarray, change: str) -> Iterator[tuple[list[str], str]]:
        _, first = np.unique(places, return_index=True)
        fresh = [at for at in np.sort(first) if not self._told[places[at]]]
        self._told[places[fresh]] = True
        skipped = [names[at] for at in fresh if self._known.skipped_ids[places[at]]]
        if skipped:
            raise JobError(
                f"--emit changes: the id {skipped[0]!r} stands for several documents, of which some changed "
                "and some did not; whoever replaces rows by their id would lose one. Give every document an "
                "id of its own, or use --emit all."
            )
        if fresh:
            yield [names[at] for at in fresh], change

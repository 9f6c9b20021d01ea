"""Reuses rows of earlier runs by a join, for remote runners.

Documents are joined with the locations of earlier rows by the digest of their text, and then grouped by row
group, so that each row group is read once. Vectors are never shuffled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_jobs.base import metrics
from beam_jobs.base.records import Document
from beam_jobs.pipeline.incremental.changes_by_join import DropUnchanged
from beam_jobs.pipeline.incremental.earlier_rows_by_join import WithEarlierRows
from beam_jobs.pipeline.incremental.previous_documents import documents_of
from beam_jobs.pipeline.incremental.previous_rows import PreviousRows, copied_columns
from beam_jobs.pipeline.incremental.reuse_by_index import ReusedDocuments, reused_rows, text_digest
from beam_jobs.pipeline.rows.copied import split_by_size

if TYPE_CHECKING:
    from beam_jobs.pipeline.incremental.plan import ReusePlan

# File, row group, first row, number of rows.
Place = tuple[str, int, int, int]
_HITS = "hits"
# Documents whose rows are copied together.
_CHUNK_DOCUMENTS = 1 << 14


class JoinRows(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Reuses rows of earlier runs, found by the digest of their text.

    Does the same as ``ReuseRows`` for workers without a shared disk.

    Args:
        plan: the reuse plan.
        schema: schema of the new rows.
        num_kept: number of kept input columns, which come last.
    """

    def __init__(self, plan: ReusePlan, schema: pa.Schema, num_kept: int) -> None:
        super().__init__()
        self._plan, self._schema, self._num_kept = plan, schema, num_kept

    def expand(self, documents: Any) -> ReusedDocuments:
        """Builds the step."""
        unchanged = unchanged_pairs = None
        if self._plan.emit == "changes":
            left = documents | "LeaveOut" >> DropUnchanged(self._plan)
            documents, unchanged, unchanged_pairs = left  # PCollection[Document], […[UnchangedDocuments]], …
        places = (
            documents.pipeline
            | "OldFiles" >> beam.Create(self._plan.paths)  # PCollection[str]
            | "SpreadOldFiles" >> beam.Reshuffle()  # PCollection[str]
            | "Trusted" >> beam.Filter(self._plan.digests.check)  # PCollection[str]
            | "Places" >> beam.FlatMap(places_in)  # PCollection[tuple[bytes, Place]]
        )
        keyed = documents | "ByText" >> beam.Map(_by_text)  # PCollection[tuple[bytes, Document]]
        split = (
            (keyed, places)
            | "DocumentsAndPlaces" >> beam.Flatten()  # PCollection[tuple[bytes, Document | Place]]
            | "MeetByText" >> beam.GroupByKey()  # PCollection[tuple[bytes, Iterable[Document | Place]]]
            | "Split" >> beam.ParDo(_SplitDoFn()).with_outputs(_HITS, main="documents")
        )  # hits: PCollection[tuple[tuple[str, int], tuple[int, int, Document]]]; documents
        rows = (
            split[_HITS]
            | "MeetByRowGroup" >> beam.GroupByKey()  # PCollection[tuple[tuple[str, int], Iterable[…]]]
            | "Copy" >> beam.ParDo(_CopyDoFn(self._schema, copied_columns(self._schema, self._num_kept)))
        )  # PCollection[pa.RecordBatch]
        rest = split.documents
        if self._plan.by_window:
            rest |= "EarlierRows" >> WithEarlierRows(self._plan)  # PCollection[Document]
        return ReusedDocuments(rows, rest, unchanged, unchanged_pairs)


def places_in(path: str) -> Iterator[tuple[bytes, Place]]:
    """Yields the text digest of each document in a file with the location of its rows.

    Raises:
        JobError: the file cannot be read.
    """
    for group, documents in documents_of(path):
        ranges = zip(documents.starts.tolist(), documents.counts.tolist(), strict=True)
        for digest, (start, count) in zip(documents.text_digests, ranges, strict=True):
            yield digest.tobytes(), (path, group, start, count)


def _by_text(document: Document) -> tuple[bytes, Document]:
    return text_digest(document), document


class _SplitDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Sends documents to the row group with their rows, or on to the model.

    Iterates twice instead of holding the values: one text may have a million documents.
    """

    def process(self, element: tuple[bytes, Iterable[Document | Place]]) -> Iterator[Any]:
        values = element[1]
        place = min((value for value in values if isinstance(value, tuple)), default=None)
        for value in values:
            if isinstance(value, tuple):
                continue
            if place is None:
                yield value
            else:
                path, group, start, count = place
                yield TaggedOutput(_HITS, ((path, group), (start, count, value)))


class _CopyDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Reads a row group and copies its rows for all documents that need them."""

    def __init__(self, schema: pa.Schema, columns: list[str]) -> None:
        self._schema, self._columns = schema, columns
        self._counter = Metrics.counter(metrics.NAMESPACE, metrics.DOCUMENTS_REUSED)

    def process(
        self, element: tuple[tuple[str, int], Iterable[tuple[int, int, Document]]]
    ) -> Iterator[pa.RecordBatch]:
        (path, group), hits = element
        old = PreviousRows([path], self._columns).group(0, group)
        for some in _chunks(hits):
            documents = [document for _, _, document in some]
            places = np.array([(0, group, start, count) for start, count, _ in some], np.int32)
            for part in split_by_size(np.arange(len(some)), places, old):
                self._counter.inc(len(part))
                yield reused_rows([documents[at] for at in part], old, places[part], self._schema)


def _chunks(hits: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(hits)
    while some := list(islice(rest, _CHUNK_DOCUMENTS)):
        yield some

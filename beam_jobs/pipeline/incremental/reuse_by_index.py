"""Reuses rows of earlier runs through an index, for workers on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_jobs.base import metrics
from beam_jobs.base.progress import ProgressSink
from beam_jobs.base.records import Document, UnchangedDocuments
from beam_jobs.pipeline.global_window import in_global_window
from beam_jobs.pipeline.incremental.digest_index import DIGEST_BYTES, DigestIndex
from beam_jobs.pipeline.incremental.previous_documents import PreviousDocuments
from beam_jobs.pipeline.incremental.previous_rows import PreviousRows, by_group, copied_columns
from beam_jobs.pipeline.rows.copied import copy_rows, split_by_size
from beam_jobs.pipeline.rows.cost import REUSED_KEY, with_counts

if TYPE_CHECKING:
    from beam_jobs.pipeline.incremental.plan import ReusePlan

ROWS, UNCHANGED = "rows", "unchanged"
# Documents looked up together, so that input in another order reads each row group only a few times.
_BUFFER_DOCUMENTS = 1 << 16
_BUFFER_BYTES = 64_000_000


class ReusedDocuments(NamedTuple):
    """The outputs of ``ReuseRows``: reused rows, documents to compute, counts of unchanged documents."""

    rows: Any  # PCollection[pa.RecordBatch]
    documents: Any  # PCollection[Document]
    unchanged: Any  # PCollection[UnchangedDocuments]
    unchanged_pairs: Any = None  # PCollection[tuple[str, bytes]], ids and text digests; only with a join


class ReuseRows(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Reuses rows of earlier runs, found by the digest of their text.

    Runs on the machine with the indexes. Documents are looked up in large buffers and their rows read file by
    file; new documents pass through in order. If only changes are written, unchanged documents end here.

    Args:
        plan: the reuse plan; its indexes must exist when the job runs.
        schema: schema of the new rows.
        num_kept: number of kept input columns, which come last.
        progress: receives the counts for the live line.
    """

    def __init__(
        self, plan: ReusePlan, schema: pa.Schema, num_kept: int, progress: ProgressSink | None = None
    ) -> None:
        super().__init__()
        self._dofn = _ReuseDoFn(plan, schema, num_kept, progress)

    def expand(self, documents: Any) -> ReusedDocuments:
        """Builds the step."""
        result = documents | "TakeOver" >> beam.ParDo(self._dofn).with_outputs(
            ROWS, UNCHANGED, main="documents"
        )  # PCollection[pa.RecordBatch], PCollection[UnchangedDocuments], PCollection[Document]
        return ReusedDocuments(result[ROWS], result.documents, result[UNCHANGED])


class _ReuseDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Buffers documents and looks them up in the indexes."""

    def __init__(
        self, plan: ReusePlan, schema: pa.Schema, num_kept: int, progress: ProgressSink | None
    ) -> None:
        self._plan = plan
        self._schema = schema
        self._columns = copied_columns(schema, num_kept)
        self._progress = progress
        self._counter = Metrics.counter(metrics.NAMESPACE, metrics.DOCUMENTS_REUSED)

    def setup(self) -> None:
        self._index = DigestIndex(self._plan.rows_folder)
        self._rows = PreviousRows(self._index.files, self._columns)
        self._previous: PreviousDocuments | None = None
        needed = self._plan.emit == "changes" or self._plan.by_window
        if needed and self._plan.documents_folder is not None:
            self._previous = PreviousDocuments(self._plan.documents_folder)

    def start_bundle(self) -> None:
        self._buffer: list[Document] = []
        self._num_bytes = 0

    def process(self, document: Document) -> Iterator[Any]:
        self._buffer.append(document)
        self._num_bytes += sum(map(len, document.texts))
        if len(self._buffer) >= _BUFFER_DOCUMENTS or self._num_bytes >= _BUFFER_BYTES:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        for output in self._flush():
            yield in_global_window(output)

    def _flush(self) -> Iterator[Any]:
        documents, self._buffer, self._num_bytes = self._buffer, [], 0
        if not documents:
            return
        digests = digests_of(documents)
        if self._previous is not None and self._plan.emit == "changes":
            same = self._previous.skip([document.doc_id for document in documents], digests)
            yield beam.pvalue.TaggedOutput(UNCHANGED, UnchangedDocuments(int(same.sum())))
            documents = [documents[at] for at in np.flatnonzero(~same)]
            digests = digests[~same]
        found = self._index.find(digests)
        hits = np.flatnonzero(found >= 0)
        for batch in self._reused([documents[at] for at in hits], self._index.places[found[hits]]):
            yield beam.pvalue.TaggedOutput(ROWS, batch)
        rest = [documents[at] for at in np.flatnonzero(found < 0)]
        yield from self._previous.earlier(rest) if self._previous and self._plan.by_window else rest

    def _reused(self, documents: list[Document], places: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Yields the rows of earlier documents, one row group at a time."""
        for (file, group), positions in by_group(places).items():
            old = self._rows.group(file, group)
            for part in split_by_size(positions, places, old):
                some = [documents[at] for at in part]
                self._count(len(some))
                yield reused_rows(some, old, places[part], self._schema)

    def _count(self, number: int) -> None:
        self._counter.inc(number)
        if self._progress is not None:
            self._progress.add(metrics.DOCUMENTS_REUSED, number)


def digests_of(documents: list[Document]) -> np.ndarray:
    """Returns uint8[documents, 32], the sha256 of each text."""
    return np.frombuffer(b"".join(map(text_digest, documents)), np.uint8).reshape(-1, DIGEST_BYTES)


def text_digest(document: Document) -> bytes:
    """Returns the sha256 of a document's text; a lone surrogate matches nothing."""
    return bytes.fromhex(document.text_sha256)


def reused_rows(
    documents: list[Document], old: pa.RecordBatch, places: np.ndarray, schema: pa.Schema
) -> pa.RecordBatch:
    """Copies rows as ``copy_rows`` does, and counts them as reused."""
    rows, num_truncated = copy_rows(documents, old, places, schema)
    counts = {"num_documents": 0, REUSED_KEY: len(documents), "num_truncated": num_truncated}
    return with_counts(rows, counts)

"""The step that takes rows over: documents whose text was there before leave as rows, the others go on."""

from __future__ import annotations

import hashlib
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
# Documents that are looked up together, so that input in another order reads a row group seldom.
_BUFFER_DOCUMENTS = 1 << 16
_BUFFER_BYTES = 64_000_000


class ReusedDocuments(NamedTuple):
    """What ``ReuseRows`` gives: rows that were taken over, documents to compute, counts of those left out."""

    rows: Any  # PCollection[pa.RecordBatch]
    documents: Any  # PCollection[Document]
    unchanged: Any  # PCollection[UnchangedDocuments]
    unchanged_pairs: Any = None  # PCollection[tuple[str, bytes]], their ids and digests, where workers join


class ReuseRows(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Takes rows over from files of earlier runs, found by the digest of their text.

    For workers on the machine that the indexes are on. Documents are looked up in large buffers and read file
    by file; what is new goes on in its order. Where only changes are written, unchanged documents end here.

    Args:
        plan: what is taken over; its indexes must be there when the job runs.
        schema: of the rows to make.
        num_kept: how many of its columns, the last ones, are the input's own.
        progress: where to count for a live line.
    """

    def __init__(
        self, plan: ReusePlan, schema: pa.Schema, num_kept: int, progress: ProgressSink | None = None
    ) -> None:
        super().__init__()
        self._dofn = _ReuseDoFn(plan, schema, num_kept, progress)

    def expand(self, documents: Any) -> ReusedDocuments:
        """Wires the step."""
        result = documents | "TakeOver" >> beam.ParDo(self._dofn).with_outputs(
            ROWS, UNCHANGED, main="documents"
        )  # PCollection[pa.RecordBatch], PCollection[UnchangedDocuments], PCollection[Document]
        return ReusedDocuments(result[ROWS], result.documents, result[UNCHANGED])


class _ReuseDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Owns a buffer of documents and the indexes."""

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
        self._known: PreviousDocuments | None = None
        if self._plan.emit == "changes" and self._plan.documents_folder is not None:
            self._known = PreviousDocuments(self._plan.documents_folder)

    def start_bundle(self) -> None:
        self._buffer: list[Document] = []
        self._num_bytes = 0

    def process(self, document: Document) -> Iterator[Any]:
        self._buffer.append(document)
        self._num_bytes += len(document.text)
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
        if self._known is not None:
            same = self._known.skip([document.doc_id for document in documents], digests)
            yield beam.pvalue.TaggedOutput(UNCHANGED, UnchangedDocuments(int(same.sum())))
            documents = [documents[at] for at in np.flatnonzero(~same)]
            digests = digests[~same]
        found = self._index.find(digests)
        hits = np.flatnonzero(found >= 0)
        for batch in self._taken([documents[at] for at in hits], self._index.places[found[hits]]):
            yield beam.pvalue.TaggedOutput(ROWS, batch)
        for at in np.flatnonzero(found < 0):
            yield documents[at]

    def _taken(self, documents: list[Document], places: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Makes the rows of documents that were there before, row group by row group."""
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
    """Returns the sha256 of a document's text; half a surrogate pair matches nothing."""
    return hashlib.sha256(document.text.encode("utf-8", errors="surrogatepass")).digest()


def reused_rows(
    documents: list[Document], old: pa.RecordBatch, places: np.ndarray, schema: pa.Schema
) -> pa.RecordBatch:
    """Makes rows as ``copy_rows`` does, which count as taken over from an earlier run."""
    rows, num_truncated = copy_rows(documents, old, places, schema)
    counts = {"num_documents": 0, REUSED_KEY: len(documents), "num_truncated": num_truncated}
    return with_counts(rows, counts)

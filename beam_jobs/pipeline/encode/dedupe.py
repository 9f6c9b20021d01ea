"""``DedupingEncodeDoFn``: computes equal texts once and copies the rows, from a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs.base import metrics
from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.pipeline.encode.dofn import DEAD_LETTERS, EncodeDoFn, rejection_reason
from beam_jobs.pipeline.rows.copied import PLACE_WIDTH, copy_rows, document_rows, split_by_size
from beam_jobs.pipeline.rows.cost import REPEATED_KEY, with_counts

# Rows in the cache: with 384 dimensions, those of 80,000 texts.
_KEPT_BYTES = 128_000_000
# Documents waiting for the rows of an equal text.
_MAX_WAITING = 1 << 16
_MAX_WAITING_BYTES = 64_000_000


class DedupingEncodeDoFn(EncodeDoFn):
    """Passes only the first of equal texts to the model.

    The cache is bounded: a text that recurs after very many others is computed again.
    """

    def setup(self) -> None:
        """Creates the cache of rows."""
        super().setup()
        self._rows = RowCache(_KEPT_BYTES)

    def start_bundle(self) -> None:
        """Empties the buffer and the list of waiting documents."""
        super().start_bundle()
        self._in_buffer: set[str] = set()
        self._repeats: list[tuple[Document, str]] = []
        self._repeats_bytes = 0

    def process(self, document: Document) -> Iterator[Any]:
        """Buffers a document with a new text; others wait for the rows of the first one."""
        if rejection_reason(document) is not None:
            yield from super().process(document)
            return
        digest = document.text_sha256
        if digest not in self._in_buffer and digest not in self._rows:
            self._in_buffer.add(digest)
            yield from super().process(document)
            return
        self._check(document)
        self._repeats.append((document, digest))
        self._repeats_bytes += sum(map(len, document.texts))
        if len(self._repeats) >= _MAX_WAITING or self._repeats_bytes >= _MAX_WAITING_BYTES:
            yield from self._flush()

    def _flush(self) -> Iterator[Any]:
        repeats, self._repeats, self._repeats_bytes = self._repeats, [], 0
        self._in_buffer = set()
        dead: dict[str, DeadLetter] = {}
        for output in super()._flush():
            if isinstance(output, TaggedOutput) and output.tag == DEAD_LETTERS:
                dead[output.value.text_sha256] = output.value
            elif not isinstance(output, TaggedOutput):
                self._rows.add(output)
            yield output
        for document, digest in repeats:
            if digest in dead:
                self._add(metrics.DOCUMENTS_DEAD, 1)
                letter = replace(dead[digest], doc_id=document.doc_id, source=document.source)
                yield TaggedOutput(DEAD_LETTERS, letter)
        yield from self._repeated([(d, digest) for d, digest in repeats if digest not in dead])
        self._rows.trim()

    def _repeated(self, repeats: list[tuple[Document, str]]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of documents whose text was computed for another document."""
        for old, documents, places in self._rows.find(repeats):
            for part in split_by_size(np.arange(len(documents)), places, old):
                some = [documents[at] for at in part]
                rows, num_truncated = copy_rows(some, old, places[part], self._schema)
                self._add(metrics.DOCUMENTS_ENCODED, len(some))
                counts = {"num_documents": len(some), REPEATED_KEY: len(some), "num_truncated": num_truncated}
                yield with_counts(rows, counts)


class RowCache:
    """Keeps the most recently computed rows, by the digest of their text.

    Args:
        max_bytes: maximum size after ``trim``.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batches: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        self._places: dict[str, tuple[int, int, int]] = {}
        self._num_bytes = self._next = 0

    def __contains__(self, digest: str) -> bool:
        return digest in self._places

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds a batch, which has all rows of its documents."""
        starts, counts = document_rows(rows)
        digests = rows.column("text_sha256").take(pa.array(starts)).to_pylist()
        self._batches[self._next] = rows
        self._num_bytes += rows.nbytes
        for digest, start, count in zip(digests, starts.tolist(), counts.tolist(), strict=True):
            self._places[digest] = (self._next, start, count)
        self._next += 1

    def find(
        self, documents: list[tuple[Document, str]]
    ) -> Iterator[tuple[pa.RecordBatch, list[Document], np.ndarray]]:
        """Yields each batch with its documents and their row locations, int32[documents, 4]."""
        wanted: dict[int, list[tuple[Document, int, int]]] = {}
        for document, digest in documents:
            number, start, count = self._places[digest]
            wanted.setdefault(number, []).append((document, start, count))
        for number, found in wanted.items():
            places = np.zeros((len(found), PLACE_WIDTH), np.int32)
            places[:, 2:] = [(start, count) for _, start, count in found]
            yield self._batches[number], [document for document, _, _ in found], places

    def trim(self) -> None:
        """Drops the oldest batches until the rest fits ``max_bytes``."""
        while self._num_bytes > self._max_bytes:
            number, rows = self._batches.popitem(last=False)
            self._num_bytes -= rows.nbytes
            self._places = {digest: place for digest, place in self._places.items() if place[0] != number}

"""Runs the model on a sample as the job would and measures tokens per second and bytes per row."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.base.records import Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.rows.make import check_results, make_rows, schema_of
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.shard import parquet_options
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.shared import shared_runtime

# Long enough for a stable rate, short enough to wait for.
_SECONDS = 10.0
_FIRST_DOCUMENTS = 128
# Fixed, so that two forecasts of one input measure the same documents.
_SEED = 0


@dataclass(frozen=True)
class Measurement:
    """Rates of the model on this machine.

    ``cells_per_second`` counts padded tokens. ``load_seconds`` includes TensorFlow's import.
    ``rows_per_document`` and ``bytes_per_row`` describe the rows as written, ``dead_fraction`` is the share
    of documents without a row.
    """

    num_documents: int
    seconds: float
    cells_per_second: float
    tokens_per_second: float
    load_seconds: float
    max_batch_tokens: int
    rows_per_document: float
    bytes_per_row: float
    dead_fraction: float


def measure(settings: EncodeSettings, documents: Sequence[Document], kept: pa.Schema) -> Measurement:
    """Loads the model and runs it for about ten seconds.

    Args:
        settings: the job's encoding settings.
        documents: to choose from; blank ones are skipped.
        kept: schema of their kept columns.

    Raises:
        UsageError: no document has text.
        ModelBundleError: the model cannot be loaded.
    """
    usable = [
        document
        for document in documents
        if any(text.strip() for text in document.texts) and all(map(_is_unicode, document.texts))
    ]
    if not usable:
        raise UsageError("The sample of the input has no text, so nothing can be measured.")
    started = time.monotonic()
    bundle = settings.open_bundle()
    runtime = shared_runtime(bundle, settings.request, settings.num_threads)
    load_seconds = time.monotonic() - started
    encoder = TextEncoder(bundle, runtime, settings.max_batch_tokens)
    probe = _Probe(settings, encoder, kept)
    shuffled = random.Random(_SEED).sample(usable, len(usable))
    probe.run(shuffled[:_FIRST_DOCUMENTS])  # warms up memory and caches
    probe.reset()
    probe.run(shuffled[:_FIRST_DOCUMENTS])
    more = int(_SECONDS / max(probe.seconds, 1e-3) * min(len(usable), _FIRST_DOCUMENTS))
    if more > _FIRST_DOCUMENTS and len(usable) > _FIRST_DOCUMENTS:
        probe.reset()
        for start in range(0, min(more, len(usable)), settings.buffer_documents):
            probe.run(shuffled[start : min(start + settings.buffer_documents, more)])
    return probe.result(load_seconds)


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which would make it a dead letter."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


class _Probe:
    """Encodes documents as the encoding step does and records time and sizes."""

    def __init__(self, settings: EncodeSettings, encoder: TextEncoder, kept: pa.Schema) -> None:
        self._settings, self._encoder = settings, encoder
        self._schema = schema_of(settings, kept)
        self.reset()

    def reset(self) -> None:
        """Clears all measurements."""
        self.seconds = 0.0
        self._documents = self._dead = self._rows = self._tokens = self._cells = 0
        self._sink = io.BytesIO()

    def run(self, documents: Sequence[Document]) -> None:
        """Encodes a buffer and writes its rows to memory."""
        started = time.monotonic()
        numbers = None
        if self._settings.numeric_columns:
            numbers = np.array([document.numbers for document in documents], dtype=np.float64)
        encoded = self._encoder.encode_each([document.model_input for document in documents], numbers)
        check_results(encoded, self._settings)
        alive = np.ones(len(documents), dtype=bool)
        alive[[failure.text_index for failure in encoded.failures]] = False
        if alive.any():
            rows = make_rows(list(documents), encoded, alive, self._schema, self._settings)
            with pq.ParquetWriter(self._sink, self._schema, **parquet_options(self._schema)) as writer:
                writer.write_batch(rows.replace_schema_metadata(self._schema.metadata))
            self._rows += rows.num_rows
        self.seconds += time.monotonic() - started
        self._documents += len(documents)
        self._dead += int((~alive).sum())
        self._tokens += int(encoded.num_tokens.sum())
        self._cells += encoded.num_padded_tokens

    def result(self, load_seconds: float) -> Measurement:
        """Returns the rates measured since the last reset."""
        num_bytes = self._sink.getbuffer().nbytes
        alive = max(self._documents - self._dead, 1)
        return Measurement(
            num_documents=self._documents,
            seconds=self.seconds,
            cells_per_second=self._cells / self.seconds,
            tokens_per_second=self._tokens / self.seconds,
            load_seconds=load_seconds,
            max_batch_tokens=self._encoder.max_batch_tokens,
            rows_per_document=self._rows / alive,
            bytes_per_row=num_bytes / max(self._rows, 1),
            dead_fraction=self._dead / max(self._documents, 1),
        )

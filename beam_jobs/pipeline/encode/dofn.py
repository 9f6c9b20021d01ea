"""``EncodeDoFn``: buffers documents, runs the model, yields rows and dead letters."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_jobs.base import metrics
from beam_jobs.base.progress import ProgressSink
from beam_jobs.base.records import DeadLetter, Document, Stage, dead_letter
from beam_jobs.base.units import count
from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.checkpoint import BufferLimit
from beam_jobs.pipeline.global_window import in_global_window
from beam_jobs.pipeline.rows.cost import READY_KEY, WEIGHTS_KEY, encoded_counts, with_cost
from beam_jobs.pipeline.rows.make import check_results, make_rows
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.base.machine import cpu_name, has_fast_bfloat16
from model_bundle.bundle.specs import Precision
from model_bundle.errors import TextTooLongError
from model_bundle.inference.results import EncodedTexts, TextFailure, WindowSpans
from model_bundle.inference.text_encoder import KnownWindows, TextEncoder
from model_bundle.runtime.isolated.runtime import IsolatedRuntime
from model_bundle.runtime.shared import shared_runtime
from model_bundle.text.windows import WindowedTexts

_logger = logging.getLogger(__name__)
DEAD_LETTERS, WINDOW_CHANGES = "dead_letters", "window_changes"


class EarlierWindows(Protocol):
    """Windows of documents that an earlier run computed; see ``incremental.earlier_windows``."""

    def find(
        self, documents: Sequence[Document], prepared: WindowedTexts
    ) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Returns the windows that are known, int64[known], and their vectors by output name."""

    def changes(
        self, documents: Sequence[Document], windows: WindowSpans, bounds: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """Yields which windows changed; ``bounds``, int64[documents + 1], are the first ones of documents."""


@contextlib.contextmanager
def naming_long_document(documents: Sequence[Document]) -> Iterator[None]:
    """Turns the encoder's error, which has the position in the batch, into one that names the document.

    Raises:
        JobError: a document is too long and ``--on_long fail`` is set.
    """
    try:
        yield
    except TextTooLongError as error:
        document = documents[error.text_index]
        raise JobError(
            f"Document {document.doc_id} of {document.source} has {error.num_tokens} tokens, the limit is "
            f"{error.max_tokens}, and --on_long fail ends the run. Use --on_long windows, truncate or "
            "dead_letter, or leave such documents out."
        ) from error


class EncodeDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Buffers documents and runs the model of the process on them; part of ``EncodeDocuments``."""

    def __init__(
        self,
        settings: EncodeSettings,
        schema: pa.Schema,
        num_kept: int,
        progress: ProgressSink | None,
        earlier: EarlierWindows | None = None,
    ) -> None:
        self._settings = settings
        self._earlier = earlier
        self._schema = schema
        self._progress = progress
        self._num_kept = num_kept
        self._max_buffer_bytes = settings.max_buffer_bytes
        self._counters = {n: Metrics.counter(metrics.NAMESPACE, n) for n in metrics.ALL}

    def setup(self) -> None:
        """Starts without a model, which the first text loads."""
        self._encoder: TextEncoder | None = None
        self._limit = BufferLimit(self._settings.buffer_documents, self._settings.buffer_seconds)

    def _load(self) -> TextEncoder:
        """Loads the model for the first text: none is loaded if all rows are reused."""
        settings = self._settings
        bundle = settings.open_bundle()
        runtime = shared_runtime(
            bundle,
            settings.request,
            settings.num_threads,
            isolate=settings.isolate_model,
            measure_batches=settings.max_batch_tokens is None,
        )
        self._model = {
            WEIGHTS_KEY: "constants" if runtime.unfrozen_reason is None else runtime.unfrozen_reason,
            READY_KEY: str(round(1000 * runtime.ready_seconds)),
        }
        if settings.request.precision is Precision.BFLOAT16 and not has_fast_bfloat16():
            self._add(metrics.SLOW_PRECISION_WORKERS, 1)
            _logger.warning(
                "This worker's processor (%s) has no bfloat16 instructions: --precision bfloat16 is "
                "slower here than float32. Choose machines with AMX or AVX512-BF16.",
                cpu_name(),
            )
        max_batch_tokens = settings.max_batch_tokens
        if isinstance(runtime, IsolatedRuntime):
            max_batch_tokens = max_batch_tokens or runtime.batch_tokens
        return TextEncoder(bundle, runtime, max_batch_tokens)

    def start_bundle(self) -> None:
        """Empties the buffer."""
        self._buffer: list[Document] = []
        self._buffer_size = 0

    def process(self, document: Document) -> Iterator[Any]:
        """Buffers a document; yields rows and dead letters when the buffer is full."""
        self._check(document)
        fault = rejection_reason(document)
        if fault is not None:
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, self._dead_letter(document, "prepare", *fault))
            return
        self._buffer.append(document)
        self._buffer_size += _size(document)
        if len(self._buffer) >= self._limit.documents or self._buffer_size >= self._max_buffer_bytes:
            yield from self._flush()

    def _check(self, document: Document) -> None:
        if len(document.columns) != self._num_kept:
            raise UsageError(
                f"A document has {count(len(document.columns), 'kept column')}, but the rows have "
                f"{self._num_kept}: "
                "pass the schema of ReadDocuments to EncodeDocuments (kept=read.summary.kept_schema)."
            )
        if (document.text_pair is not None) != self._settings.takes_pairs:
            raise UsageError(
                "The model takes two texts, but a document has one: pass their columns to ReadDocuments "
                "(ReadOptions(…, text_pair_columns=…))."
                if self._settings.takes_pairs
                else "A document has two texts, but the model takes one: read it without text_pair_columns."
            )
        if len(document.numbers) != len(self._settings.numeric_columns):
            raise UsageError(
                f"A document has {count(len(document.numbers), 'number')}, but the model takes "
                f"{len(self._settings.numeric_columns)}: pass their columns to ReadDocuments "
                "(ReadOptions(…, numeric_columns=settings.numeric_columns))."
            )

    def finish_bundle(self) -> Iterator[Any]:
        """Computes what is left in the buffer."""
        for output in self._flush():
            yield in_global_window(output)

    def _flush(self) -> Iterator[Any]:
        documents, self._buffer, self._buffer_size = self._buffer, [], 0
        if not documents:
            return
        if self._encoder is None:
            self._encoder = self._load()
        started = time.monotonic()
        texts, table = [document.model_input for document in documents], self._table(documents)
        with naming_long_document(documents):
            encoded = self._encoder.encode_each(texts, table, self._known(documents))
        check_results(encoded, self._settings)
        seconds = time.monotonic() - started
        tokens_each = max(int(encoded.num_tokens.sum()), 1) / len(documents)
        self._limit.computed(len(documents), seconds, round(self._encoder.tokens_at_once / tokens_each))
        milliseconds = round(1000 * seconds)
        for name, number in encoded_counts(encoded, milliseconds).items():
            self._add(name, number)
        failures = {failure.text_index: failure for failure in encoded.failures}
        for index, failure in sorted(failures.items()):
            letter = self._dead_letter(documents[index], "encode", failure.reason, self._message(failure))
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, letter)
        alive = np.ones(len(documents), dtype=bool)
        alive[list(failures)] = False
        if alive.any():
            rows = make_rows(documents, encoded, alive, self._schema, self._settings)
            blank = sum(
                _has_blank(document) for document, lives in zip(documents, alive, strict=True) if lives
            )
            yield with_cost(rows, encoded, alive, milliseconds, self._model, num_half_blank=blank)
        for changes in self._window_changes(documents, encoded, alive):
            yield beam.pvalue.TaggedOutput(WINDOW_CHANGES, changes)

    def _known(self, documents: list[Document]) -> KnownWindows | None:
        """Returns what finds windows that need not be computed; None if no document has earlier rows."""
        earlier = self._earlier
        if earlier is None or all(document.earlier is None for document in documents):
            return None
        return lambda prepared: earlier.find(documents, prepared)

    def _window_changes(
        self, documents: list[Document], encoded: EncodedTexts, alive: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """Yields the changes of windows in the documents that got rows."""
        if self._earlier is None or encoded.windows is None:
            return
        bounds = np.searchsorted(encoded.row_texts, np.arange(len(documents) + 1))
        some = [replace(d, earlier=d.earlier if alive[at] else None) for at, d in enumerate(documents)]
        yield from self._earlier.changes(some, encoded.windows, bounds)

    def _table(self, documents: list[Document]) -> np.ndarray | None:
        """Returns the numeric model inputs as float64[documents, columns]."""
        if not self._settings.numeric_columns:
            return None
        return np.array([document.numbers for document in documents], dtype=np.float64)

    def _dead_letter(self, document: Document, stage: Stage, reason: str, message: str) -> DeadLetter:
        self._add(metrics.DOCUMENTS_DEAD, 1)
        return dead_letter(document, stage, reason, message, no_text=self._settings.no_text)

    def _message(self, failure: TextFailure) -> str:
        """Returns a failure's message; with ``--no_text``, without the model's own."""
        if self._settings.no_text and failure.reason == "model_error":
            return "The model failed on this text. Its message is omitted, because it may quote the text."
        return failure.message

    def _add(self, name: str, count: int) -> None:
        self._counters[name].inc(count)
        if self._progress is not None:
            self._progress.add(name, count)


def _has_blank(document: Document) -> bool:
    """Whether a document is a pair with one blank text."""
    return document.text_pair is not None and not all(text.strip() for text in document.texts)


def _size(document: Document) -> int:
    """Estimates the memory of a document in bytes: its text, columns and numbers."""
    values = [*document.texts, *document.columns, *document.numbers]
    return sum(len(value) if isinstance(value, str | bytes) else sys.getsizeof(value) for value in values)


def rejection_reason(document: Document) -> tuple[str, str] | None:
    """Returns reason and message if a text cannot be passed to the model, otherwise None."""
    if not any(text.strip() for text in document.texts):
        return "blank_text", "The text is empty or only white space; there is nothing to embed."
    try:
        for text in document.texts:
            text.encode("utf-8")
    except UnicodeEncodeError as error:
        return "invalid_unicode", f"The text contains a lone surrogate at character {error.start}."
    return None

"""Documents to rows: the one place where text meets the model."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.base import metrics
from beam_jobs.base.records import DeadLetter, Document, Stage, dead_letter
from beam_jobs.errors import UsageError
from beam_jobs.job.console.progress_line import ProgressSink
from beam_jobs.pipeline.checkpoint import BufferLimit
from beam_jobs.pipeline.encode.dofn import naming_long_document
from beam_jobs.pipeline.rows.cost import encoded_counts
from beam_jobs.pipeline.rows.make import (
    READY_KEY,
    WEIGHTS_KEY,
    check_range,
    check_words,
    make_rows,
    schema_of,
    with_cost,
)
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.base.machine import cpu_name, has_fast_bfloat16
from model_bundle.bundle.manifest import Precision
from model_bundle.inference.results import TextFailure
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.isolated.runtime import IsolatedRuntime
from model_bundle.runtime.shared import shared_runtime

_logger = logging.getLogger(__name__)

DEAD_LETTERS = "dead_letters"


class EncodedDocuments(NamedTuple):
    """What ``EncodeDocuments`` gives."""

    rows: Any  # PCollection[pa.RecordBatch]
    dead_letters: Any  # PCollection[DeadLetter]


class EncodeDocuments(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Computes vectors or classes of each document; gives Arrow record batches and dead letters.

    The model is loaded once per worker process. Documents are tokenized and sorted by length in buffers, run
    in batches under a padded token budget, and leave in the order they came in. Blank texts become dead
    letters before the model (``blank_text``); a batch that fails is halved until the culprit is alone. Where
    the model takes numbers, documents bring them (``Document.numbers``).

    Args:
        settings: what to compute, see ``EncodeSettings.resolve`` and ``resolve_classes``.
        kept: schema of the columns that documents carry along.
        progress: where to count for a live line.
    """

    def __init__(
        self, settings: EncodeSettings, kept: pa.Schema | None = None, progress: ProgressSink | None = None
    ) -> None:
        super().__init__()
        self._kept = kept if kept is not None else pa.schema([])
        self.settings = settings
        self.schema = schema_of(settings, self._kept)
        self._progress = progress

    def expand(self, documents: Any) -> EncodedDocuments:
        """Wires the step.

        Raises:
            UsageError: the input is unbounded or windowed.
        """
        require_batch(documents, "EncodeDocuments")
        result = documents | "EncodeBuffers" >> beam.ParDo(
            self._kind_of_dofn(self.settings, self.schema, len(self._kept), self._progress)
        ).with_outputs(DEAD_LETTERS, main="rows")  # PCollection[pa.RecordBatch], PCollection[DeadLetter]
        return EncodedDocuments(result.rows, result[DEAD_LETTERS])

    @property
    def _kind_of_dofn(self) -> type[_EncodeDoFn]:
        if not self.settings.dedupe:
            return _EncodeDoFn
        from beam_jobs.pipeline.encode.dedupe import _DedupingEncodeDoFn  # it is made of the one here

        return _DedupingEncodeDoFn


def require_batch(collection: Any, step: str) -> None:
    """Refuses input that never ends or stands in windows.

    Raises:
        UsageError: says how to get to one global window.
    """
    if not collection.is_bounded:
        raise UsageError(
            f"{step} needs bounded input: a run ends with a manifest. Read from files or a table."
        )
    if not isinstance(collection.windowing.windowfn, GlobalWindows):
        raise UsageError(
            f"{step} needs its input in the global window, not {collection.windowing.windowfn}; "
            "put beam.WindowInto(beam.window.GlobalWindows()) before it."
        )


class _EncodeDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Owns a buffer of documents and the process's model; ``EncodeDocuments`` wires it."""

    def __init__(
        self, settings: EncodeSettings, schema: pa.Schema, num_kept: int, progress: ProgressSink | None
    ) -> None:
        self._settings = settings
        self._schema = schema
        self._progress = progress
        self._num_kept = num_kept
        self._max_buffer_bytes = settings.max_buffer_bytes
        self._counters = {n: Metrics.counter(metrics.NAMESPACE, n) for n in metrics.ALL}

    def setup(self) -> None:
        self._encoder: TextEncoder | None = None
        self._limit = BufferLimit(self._settings.buffer_documents, self._settings.buffer_seconds)

    def _load(self) -> TextEncoder:
        """Loads the model when the first text needs it: where nothing is new, none is loaded."""
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
        self._buffer: list[Document] = []
        self._buffer_size = 0

    def process(self, document: Document) -> Iterator[Any]:
        self._check(document)
        fault = _unfit(document)
        if fault is not None:
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, self._dead(document, "prepare", *fault))
            return
        self._buffer.append(document)
        self._buffer_size += _size(document)
        if len(self._buffer) >= self._limit.documents or self._buffer_size >= self._max_buffer_bytes:
            yield from self._flush()

    def _check(self, document: Document) -> None:
        if len(document.columns) != self._num_kept:
            raise UsageError(
                f"A document has {len(document.columns)} kept columns, but the rows have {self._num_kept}: "
                "give EncodeDocuments the schema that ReadDocuments keeps (kept=read.summary.kept_schema)."
            )
        if len(document.numbers) != len(self._settings.numeric_columns):
            raise UsageError(
                f"A document has {len(document.numbers)} numbers, but the model takes "
                f"{len(self._settings.numeric_columns)}: give ReadDocuments the columns that they are in "
                "(ReadOptions(…, numeric_columns=settings.numeric_columns))."
            )

    def finish_bundle(self) -> Iterator[Any]:
        for output in self._flush():
            yield in_global_window(output)

    def _flush(self) -> Iterator[Any]:
        documents, self._buffer, self._buffer_size = self._buffer, [], 0
        if not documents:
            return
        if self._encoder is None:
            self._encoder = self._load()
        started = time.monotonic()
        texts, table = [document.text for document in documents], self._table(documents)
        with naming_long_document(documents):
            encoded = self._encoder.encode_each(texts, table)
        check_words(encoded)
        check_range(encoded, self._settings.vector_dtype)
        seconds = time.monotonic() - started
        tokens_each = max(int(encoded.num_tokens.sum()), 1) / len(documents)
        self._limit.computed(len(documents), seconds, round(self._encoder.tokens_at_once / tokens_each))
        milliseconds = round(1000 * seconds)
        for name, count in encoded_counts(encoded, milliseconds).items():
            self._add(name, count)
        failures = {failure.text_index: failure for failure in encoded.failures}
        for index, failure in sorted(failures.items()):
            letter = self._dead(documents[index], "encode", failure.reason, self._message(failure))
            yield beam.pvalue.TaggedOutput(DEAD_LETTERS, letter)
        alive = np.ones(len(documents), dtype=bool)
        alive[list(failures)] = False
        if alive.any():
            rows = make_rows(documents, encoded, alive, self._schema, self._settings)
            yield with_cost(rows, encoded, alive, milliseconds, self._model)

    def _table(self, documents: list[Document]) -> np.ndarray | None:
        """Returns float64[documents, columns], what the model takes beside the text."""
        if not self._settings.numeric_columns:
            return None
        return np.array([document.numbers for document in documents], dtype=np.float64)

    def _dead(self, document: Document, stage: Stage, reason: str, message: str) -> DeadLetter:
        self._add(metrics.DOCUMENTS_DEAD, 1)
        return dead_letter(document, stage, reason, message, no_text=self._settings.no_text)

    def _message(self, failure: TextFailure) -> str:
        """What a model says when it fails may quote its input."""
        if self._settings.no_text and failure.reason == "model_error":
            return "The model failed on this text. What it said is left out, as it may quote the text."
        return failure.message

    def _add(self, name: str, count: int) -> None:
        self._counters[name].inc(count)
        if self._progress is not None:
            self._progress.add(name, count)


def _size(document: Document) -> int:
    """Estimates what a document holds in memory, in bytes: its text, and what it takes along."""
    values = [document.text, *document.columns, *document.numbers]
    return sum(len(value) if isinstance(value, str | bytes) else sys.getsizeof(value) for value in values)


def _unfit(document: Document) -> tuple[str, str] | None:
    """Says why a text cannot go to the model: reason and message; None where it can."""
    if not document.text.strip():
        return "blank_text", "The text is empty or only white space; there is nothing to embed."
    try:
        document.text.encode("utf-8")
    except UnicodeEncodeError as error:
        return "invalid_unicode", f"The text holds a lone surrogate at character {error.start}."
    return None


def in_global_window(output: Any) -> Any:
    """Wraps an output, tagged or not, as Beam wants it at the end of a bundle."""
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, in_global_window(output.value))
    return WindowedValue(output, GlobalWindow().max_timestamp(), (GlobalWindow(),))

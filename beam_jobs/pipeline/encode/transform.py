"""The ``EncodeDocuments`` transform: documents to rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa

from beam_jobs.base.progress import ProgressSink
from beam_jobs.pipeline.encode.dedupe import DedupingEncodeDoFn
from beam_jobs.pipeline.encode.dofn import (
    DEAD_LETTERS,
    WINDOW_CHANGES,
    EarlierWindows,
    EncodeDoFn,
)
from beam_jobs.pipeline.global_window import require_batch
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.settings import EncodeSettings


class EncodedDocuments(NamedTuple):
    """The outputs of ``EncodeDocuments``."""

    rows: Any  # PCollection[pa.RecordBatch]
    dead_letters: Any  # PCollection[DeadLetter]
    window_changes: Any = None  # PCollection[pa.RecordBatch], if there are earlier windows


class EncodeDocuments(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Computes vectors or classes of each document; outputs Arrow record batches and dead letters.

    The model is loaded once per worker process. Documents are tokenized and sorted by length in buffers, run
    in batches under a padded token budget, and leave in their original order. Blank texts become dead letters
    before the model (``blank_text``); a failing batch is bisected until the failing text is alone. Numeric
    model inputs come from ``Document.numbers``.

    Args:
        settings: what to compute, see ``EncodeSettings.resolve`` and ``resolve_classes``.
        kept: schema of the kept input columns.
        progress: receives the counts for the live line.
        earlier: finds windows of documents that an earlier run computed.
    """

    def __init__(
        self,
        settings: EncodeSettings,
        kept: pa.Schema | None = None,
        progress: ProgressSink | None = None,
        earlier: EarlierWindows | None = None,
    ) -> None:
        super().__init__()
        self._kept = kept if kept is not None else pa.schema([])
        self.settings = settings
        self.schema = schema_of(settings, self._kept)
        self._progress = progress
        self._earlier = earlier

    def expand(self, documents: Any) -> EncodedDocuments:
        """Builds the step.

        Raises:
            UsageError: the input is unbounded or windowed.
        """
        require_batch(documents, "EncodeDocuments")
        dofn = DedupingEncodeDoFn if self.settings.dedupe else EncodeDoFn
        tags = (DEAD_LETTERS,) if self._earlier is None else (DEAD_LETTERS, WINDOW_CHANGES)
        result = documents | "EncodeBuffers" >> beam.ParDo(
            dofn(self.settings, self.schema, len(self._kept), self._progress, self._earlier)
        ).with_outputs(*tags, main="rows")  # PCollection[pa.RecordBatch], PCollection[DeadLetter], …
        changes = None if self._earlier is None else result[WINDOW_CHANGES]
        return EncodedDocuments(result.rows, result[DEAD_LETTERS], changes)

"""The ``WriteRun`` transform: staged shards, receipts, one commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.records import DeadLetter
from beam_jobs.base.worker_log import name_run_in_logs
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.checkpoint import Checkpoint
from beam_jobs.pipeline.global_window import in_global_window, require_batch
from beam_jobs.pipeline.incremental.changes_by_index import CHANGES_SCHEMA, FindChanges
from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA, WINDOW_CHANGES_SCHEMA, dead_letter_batch
from beam_jobs.pipeline.write.commit import CommitRun
from beam_jobs.pipeline.write.description import RunDescription
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import CHANGES, DEAD_LETTERS, STAGING_DIR, WINDOW_CHANGES
from beam_jobs.store.run_folder import has_ended

_BATCH_LETTERS = 1000
_BATCH_BYTES = 16_000_000


class RunInputs(NamedTuple):
    """The inputs of ``WriteRun``. The elements of ``num_read`` add up to the number of documents read.

    ``reused`` are more rows, in a separate collection: flattening both would make the in-process runner hold
    them in memory.
    """

    rows: Any  # PCollection[pa.RecordBatch]
    dead_letters: Any  # PCollection[DeadLetter]
    num_read: Any  # PCollection[int]
    dead_files: Any = None  # PCollection[DeadFile]
    unchanged: Any = None  # PCollection[UnchangedDocuments]
    reused: Any = None  # PCollection[pa.RecordBatch]
    changes: Any = None  # PCollection[pa.RecordBatch]
    window_changes: Any = None  # PCollection[pa.RecordBatch]


class WriteRun(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Writes one run: Parquet shards of rows and of dead letters, and the manifest last.

    Workers write shards under unique names into ``_staging/`` and emit receipts; only receipts of committed
    work survive a retry, so nothing is duplicated. Vectors are never shuffled.

    Args:
        options: where to write, and when files are closed.
        schema: schema of the rows.
        description: contents of the manifest.
        documents_folder: index of earlier documents, see ``PreviousDocuments``; changes since then are
            written, too.
    """

    def __init__(
        self,
        options: WriteOptions,
        schema: pa.Schema,
        description: RunDescription,
        documents_folder: str | None = None,
    ) -> None:
        super().__init__()
        self._documents_folder = documents_folder
        self._options = options
        run_metadata = {b"beam_jobs.run_id": options.run_id.encode()}
        self._schema = schema.with_metadata((schema.metadata or {}) | run_metadata)
        self._description = description

    def _extract_input_pvalues(self, inputs: RunInputs) -> tuple[RunInputs, dict[str, Any]]:
        """Returns the collections inside for Beam; some may be missing."""
        return inputs, {name: part for name, part in inputs._asdict().items() if part is not None}

    def expand(self, inputs: RunInputs) -> Any:
        """Builds the step; returns the manifest as a PCollection of one.

        Raises:
            UsageError: the input is unbounded or windowed.
        """
        collections = [c for c in inputs if c is not None]
        if len(collections) < 3:
            raise UsageError("WriteRun needs rows, dead_letters and num_read.")
        for collection in collections:
            require_batch(collection, "WriteRun")
        options, precision = self._options, self._description.precision
        writer = _WriteShardsDoFn(self._description.kind, self._schema, options, precision)
        receipts = inputs.rows | "WriteRows" >> beam.ParDo(writer)  # PCollection[Receipt]
        if inputs.reused is not None:
            reused = inputs.reused | "WriteReusedRows" >> beam.ParDo(writer)  # PCollection[Receipt]
            receipts = (receipts, reused) | "RowReceipts" >> beam.Flatten()  # PCollection[Receipt]
        dead_receipts = (
            inputs.dead_letters
            | "BatchDeadLetters" >> beam.ParDo(_BatchDeadLettersDoFn())  # PCollection[pa.RecordBatch]
            | "WriteDeadLetters"
            >> beam.ParDo(_WriteShardsDoFn(DEAD_LETTERS, DEAD_LETTER_SCHEMA, options, None))
        )  # PCollection[Receipt]
        entries = [receipts, dead_receipts, inputs.num_read]
        entries += [part for part in (inputs.dead_files, inputs.unchanged) if part is not None]
        changes = inputs.changes
        if self._documents_folder is not None:
            changes = receipts | "FindChanges" >> FindChanges(
                self._documents_folder
            )  # PCollection[RecordBatch]
        if changes is not None:
            writer = _WriteShardsDoFn(CHANGES, CHANGES_SCHEMA, options, None)
            entries.append(changes | "WriteChanges" >> beam.ParDo(writer))  # PCollection[Receipt]
        if inputs.window_changes is not None:
            writer = _WriteShardsDoFn(WINDOW_CHANGES, WINDOW_CHANGES_SCHEMA, options, None)
            written = inputs.window_changes | "WriteWindowChanges" >> beam.ParDo(writer)
            entries.append(written)  # PCollection[Receipt]
        return (
            tuple(entries)
            | "Entries" >> beam.Flatten()  # PCollection[Receipt | int | DeadFile | UnchangedDocuments]
            | "Commit" >> CommitRun(options, self._description)  # PCollection[RunManifest]
        )


class WriteShards(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Writes record batches of one kind to staged shards and returns their receipts.

    Args:
        kind: the final folder of the shards.
        schema: schema of every batch.
        options: the run, and when files are closed.
        precision: precision of the vectors; None for rows without any.
    """

    def __init__(self, kind: str, schema: pa.Schema, options: WriteOptions, precision: str | None) -> None:
        super().__init__()
        self._writer = _WriteShardsDoFn(kind, schema, options, precision)

    def expand(self, batches: Any) -> Any:
        """Builds the step."""
        return batches | "WriteShards" >> beam.ParDo(self._writer)  # PCollection[Receipt]


class _WriteShardsDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Writes batches to one open shard at a time."""

    def __init__(self, kind: str, schema: pa.Schema, options: WriteOptions, precision: str | None) -> None:
        self._kind = kind
        self._schema = schema
        self._options = options
        self._precision = precision
        self._folder = filesystem.join(options.output, options.run_id, STAGING_DIR)
        self._shard: Shard | None = None

    def setup(self) -> None:
        name_run_in_logs(self._options)
        self._checkpoint = Checkpoint(self._options.checkpoint_seconds)

    def start_bundle(self) -> None:
        self._shard = None
        self._checkpoint.reached()

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        if batch.num_rows == 0:
            return
        if self._shard is None:
            if has_ended(self._options):  # the engine runs the whole job again: the rows are there
                return
            self._shard = Shard(self._folder, self._kind, self._schema)
        shard = self._shard
        shard.write(batch)
        if shard.num_bytes >= self._options.max_shard_bytes or self._checkpoint.is_due:
            self._shard = None
            receipt = shard.close(self._precision)
            self._checkpoint.reached()
            yield receipt

    def finish_bundle(self) -> Iterator[Any]:
        if self._shard is not None:
            receipt, self._shard = self._shard.close(self._precision), None
            yield in_global_window(receipt)

    def teardown(self) -> None:
        if self._shard is not None:
            self._shard.abandon()


class _BatchDeadLettersDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Collects dead letters into record batches."""

    def start_bundle(self) -> None:
        self._letters: list[DeadLetter] = []
        self._num_bytes = 0

    def process(self, letter: DeadLetter) -> Iterator[pa.RecordBatch]:
        self._letters.append(letter)
        self._num_bytes += len(letter.text or "")
        if len(self._letters) >= _BATCH_LETTERS or self._num_bytes >= _BATCH_BYTES:
            yield dead_letter_batch(self._letters)
            self.start_bundle()

    def finish_bundle(self) -> Iterator[Any]:
        if self._letters:
            batch = dead_letter_batch(self._letters)
            yield in_global_window(batch)

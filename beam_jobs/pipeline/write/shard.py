"""``Shard``: writes one Parquet file in bounded memory, with a digest and a receipt."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.pipeline.rows.cost import COST_KEYS, READY_KEY, REUSED_KEY, WEIGHTS_KEY
from beam_jobs.pipeline.rows.schema import WINDOW_DIGEST
from beam_jobs.pipeline.write.class_counts import count_classes
from beam_jobs.pipeline.write.timeline import WorkLog, count_lengths
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import CHANGES, DEAD_LETTERS, WINDOW_CHANGES
from beam_jobs.store.receipt import CLOSED_PREFIX, Receipt
from model_bundle.base.machine import cpu_name, num_cores, peak_memory_bytes

# Keeps the writer's memory small and is large enough for efficient scans.
_ROW_GROUP_BYTES = 32_000_000
# Rows that are not documents are counted by the values of one of their columns, under a name.
_COUNTED_COLUMNS = {
    DEAD_LETTERS: ("reason", "reason"),
    CHANGES: ("change", "change"),
    WINDOW_CHANGES: ("change", "window_change"),
}


class Shard:
    """Writes record batches of one schema to a new file below ``folder``.

    Args:
        folder: folder for staged files.
        kind: ``embeddings``, ``classes``, ``dead_letters``, ``changes`` or ``window_changes``.
        schema: schema of every batch.
    """

    def __init__(self, folder: str, kind: str, schema: pa.Schema) -> None:
        self._folder = folder
        self._kind = kind
        self._schema = schema
        # A retried worker, or one that was given up, writes the same rows again under another name.
        self.path = filesystem.join(folder, f"{kind}-{uuid.uuid4().hex}.parquet")
        self._opened_at = time.time_ns()
        self._sink = _DigestingSink(self.path)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), schema, **parquet_options(schema)
        )
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._counts: dict[str, int] = {}
        self._num_rows = 0
        self._ready_milliseconds = 0
        self._work = WorkLog()

    @property
    def num_bytes(self) -> int:
        """Bytes written so far plus the size in memory of the pending row group."""
        return self._sink.num_bytes + self._pending_bytes

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows and their cost."""
        self._pending.append(batch.replace_schema_metadata(self._schema.metadata))
        self._pending_bytes += batch.nbytes
        self._num_rows += batch.num_rows
        ready = (batch.schema.metadata or {}).get(READY_KEY.encode(), b"0")
        self._ready_milliseconds = max(self._ready_milliseconds, int(ready))
        counts = _counts(batch, self._kind) | count_classes(batch, self._schema.metadata or {})
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
        num_documents = counts["num_documents"] + counts[REUSED_KEY]
        if num_documents:
            self._work.add(num_documents, counts["num_tokens"], counts["model_milliseconds"])
        if self._pending_bytes >= _ROW_GROUP_BYTES:
            self._write_group()

    def close(self, precision: str | None) -> Receipt:
        """Finishes the file and returns its receipt."""
        self._write_group()
        self._writer.close()
        # A later attempt trusts this file only with its digest.
        filesystem.replace(filesystem.join(self._folder, f"{CLOSED_PREFIX}{self._sink.sha256}"), b"")
        self._sink.close()
        return Receipt(
            kind=self._kind,
            path=self.path,
            num_rows=self._num_rows,
            num_bytes=self._sink.num_bytes,
            sha256=self._sink.sha256,
            opened_at=self._opened_at,
            precision=precision,
            counts=self._counts,
            peak_memory_bytes=peak_memory_bytes(),
            ready_milliseconds=self._ready_milliseconds,
            work=self._work.intervals,
            machine=f"{cpu_name()}, {num_cores()} cores",
            process=f"{socket.gethostname()}/{os.getpid()}",
        )

    def abandon(self) -> None:
        """Closes the file without a receipt; it is never read."""
        self._sink.discard()
        self._writer.close()

    def _write_group(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, schema=self._schema)
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._pending, self._pending_bytes = [], 0


def _counts(batch: pa.RecordBatch, kind: str) -> dict[str, int]:
    """Returns the counts of a batch: its cost from the metadata, dead letters by reason, changes by kind."""
    metadata = batch.schema.metadata or {}
    counts = {key: int(metadata.get(key.encode(), b"0")) for key in COST_KEYS}
    counted = _COUNTED_COLUMNS.get(kind)
    if counted is not None:
        for entry in batch.column(counted[0]).value_counts().to_pylist():
            counts[f"{counted[1]}/{entry['values']}"] = entry["counts"]
    elif b"num_documents" not in metadata:
        counts["num_documents"] = batch.num_rows  # rows of another step: one per document
    if WEIGHTS_KEY.encode() in metadata:
        counts[f"weights/{metadata[WEIGHTS_KEY.encode()].decode()}"] = batch.num_rows
    return counts | count_lengths(batch)


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Returns the options of the Parquet writer for a schema."""
    texts = {"text", "text_pair"}
    own = {"doc_id", "text_sha256", WINDOW_DIGEST, "message"} | texts
    return {
        "compression": "zstd",
        # Dictionaries of float vectors or unique ids cost time and save no space.
        # These are for columns whose values repeat: the source and the kept input columns.
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type) and f.name not in own],
        "write_statistics": [
            f.name for f in schema if not pa.types.is_nested(f.type) and f.name not in texts
        ],
        # Says where each page begins, so that a few rows of a large group can be fetched: 500 bytes a file.
        "write_page_index": True,
    }


class _DigestingSink:
    """A file object that computes the digest of the bytes written."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stream = filesystem.open_new(path)
        self._discards = False
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed) and not self._discards

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Closes the stream and ignores further writes, such as the footer from the Parquet writer."""
        self._discards = True
        with contextlib.suppress(OSError):  # the disk may be full; this file is never read
            self._stream.close()

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self._discards:
            return view.nbytes
        self._stream.write(bytes(view))
        self._digest.update(view)
        self.num_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.num_bytes

    def flush(self) -> None:
        if not self._discards:
            self._stream.flush()

    def close(self) -> None:
        if not self._stream.closed:
            filesystem.close_safely(self._stream, self._path)

"""Locates and re-reads the rows of documents in earlier runs, one row group at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import JobError
from beam_jobs.pipeline.incremental.digest_index import DigestIndex, IndexWriter, from_hex
from beam_jobs.pipeline.rows.copied import COUNTING_COLUMNS, PLACE_WIDTH, document_rows
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import STAGING_DIR
from beam_jobs.store.row_columns import lacking

# Columns that come from the new input; all others are copied.
_OF_INPUT = ("doc_id", "source", "text_sha256", "text", "text_pair")
# Decoded row groups in memory; input in the old order reads each group once.
_KEPT_GROUPS = 2


def copied_columns(schema: pa.Schema, num_kept: int) -> list[str]:
    """Returns the columns to copy: those computed by the model."""
    own = schema.names[: len(schema) - num_kept]
    return [name for name in own if name not in _OF_INPUT]


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file, local or remote.

    Raises:
        JobError: it cannot be read.
    """
    try:
        if filesystem.is_local(path):
            with pq.ParquetFile(path) as parquet:
                yield parquet
            return
        with filesystem.open_file(path) as stream, pq.ParquetFile(stream, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise JobError(
            f"{path}, a file of an earlier run, cannot be read: {error}. Choose another run, or leave "
            "--previous out."
        ) from error


def index_rows(paths: Sequence[str], folder: str) -> DigestIndex:
    """Indexes the documents of Parquet files by the digest of their text.

    Reads two columns, one row group at a time.

    Raises:
        JobError: a file cannot be read.
    """
    with IndexWriter(folder, PLACE_WIDTH) as writer:
        for number, path in enumerate(paths):
            with open_parquet(path) as parquet:
                for group in range(parquet.metadata.num_row_groups):
                    found = group_documents(parquet, group, with_ids=False)
                    places = np.empty((len(found.starts), PLACE_WIDTH), np.int32)
                    places[:, 0], places[:, 1] = number, group
                    places[:, 2], places[:, 3] = found.starts, found.counts
                    writer.add(found.text_digests, places)
        return writer.finish(paths)


@dataclass(frozen=True)
class GroupDocuments:
    """The documents of a row group.

    ``starts``, ``counts``: int64[documents], first row and number of rows. ``text_digests``: uint8[documents,
    32]. ``ids`` is empty if they were not read.
    """

    starts: np.ndarray
    counts: np.ndarray
    text_digests: np.ndarray
    ids: list[str]

    def only(self, wanted: list[int]) -> GroupDocuments:
        """Selects documents by position."""
        arrays = (self.starts[wanted], self.counts[wanted], self.text_digests[wanted])
        return GroupDocuments(*arrays, [self.ids[at] for at in wanted])


def group_documents(parquet: pq.ParquetFile, group: int, *, with_ids: bool = True) -> GroupDocuments:
    """Reads the documents of a row group."""
    counting = [name for name in COUNTING_COLUMNS if name in parquet.schema_arrow.names]
    columns = ["text_sha256", *counting, *(["doc_id"] if with_ids else [])]
    table = parquet.read_row_group(group, columns=columns)
    starts, counts = document_rows(table)
    rows = table if not counting else table.take(pa.array(starts))
    digests = b"".join(rows.column("text_sha256").cast(pa.binary()).to_pylist())
    ids = rows.column("doc_id").to_pylist() if with_ids else []
    return GroupDocuments(starts, counts, from_hex(digests, len(starts)), ids)


class PreviousRows:
    """Reads row groups of earlier runs and keeps the latest ones in memory.

    Args:
        files: see ``DigestIndex.files``.
        columns: columns to read, in addition to ``text_sha256``.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str]) -> None:
        self._files = files
        self._columns = ["text_sha256", *(name for name in columns if name != "text_sha256")]
        self._kept: OrderedDict[tuple[int, int], pa.RecordBatch] = OrderedDict()

    def group(self, file: int, group: int) -> pa.RecordBatch:
        """Returns the rows of a row group."""
        key = (file, group)
        if key not in self._kept:
            with open_parquet(self._files[file]) as parquet:
                table = parquet.read_row_group(group, columns=self._columns).combine_chunks()
            while len(self._kept) >= _KEPT_GROUPS:
                self._kept.popitem(last=False)
            (self._kept[key],) = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        self._kept.move_to_end(key)
        return self._kept[key]


def by_group(places: np.ndarray) -> Mapping[tuple[int, int], np.ndarray]:
    """Groups the positions of locations, int32[documents, 4], by file and row group, in that order."""
    order = np.lexsort((places[:, 1], places[:, 0]))
    ordered = places[order, :2]
    bounds = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    return {
        (int(places[part[0], 0]), int(places[part[0], 1])): part
        for part in np.split(order, bounds)
        if len(part)
    }


def staged_files(write: WriteOptions, kind: str, encode: EncodeSettings, columns: list[str]) -> list[str]:
    """Returns the files of an earlier attempt at a run whose rows can be reused.

    A file counts if it was closed (a truncated Parquet file has no footer and cannot be read) and has the
    same bundle, settings and columns.

    Args:
        write: options of the run.
        kind: kind of its rows.
        encode: settings of the encoding step.
        columns: columns that rows must have.
    """
    root = filesystem.join(write.output, write.run_id)
    staged = [
        path
        for path in filesystem.list_files(filesystem.join(root, STAGING_DIR))
        if filesystem.base_name(path).startswith(f"{kind}-") and path.endswith(".parquet")
    ]
    # An attempt that failed, or was stopped while moving its files, has them under their final names.
    moved = [path for path in filesystem.list_files(filesystem.join(root, kind)) if path.endswith(".parquet")]
    wanted = encode.file_metadata()
    return sorted(path for path in [*staged, *moved] if _fits(path, wanted, columns))


def _fits(path: str, wanted: dict[str, str], columns: list[str]) -> bool:
    schema = _schema(path)
    if schema is None:
        return False
    metadata = schema.metadata or {}
    digests = ("beam_jobs.bundle_digest", "beam_jobs.settings_digest")
    same = all(metadata.get(key.encode()) == wanted[key].encode() for key in digests)
    return same and not lacking(schema, columns)


def _schema(path: str) -> pa.Schema | None:
    """Reads the schema of a file; None if it is empty or truncated."""
    try:
        with open_parquet(path) as parquet:
            return parquet.schema_arrow if parquet.metadata.num_rows else None
    except JobError:
        return None

"""Reads Parquet: row groups in small batches, only the required columns.

The bytes of a batch are bounded by the average size of the row group's rows, and so is the read-ahead of each
column. A single value is decoded before its size is known, because Parquet decodes whole pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, StoredFile
from beam_jobs.pipeline.read.formats.columnar import BATCH_BYTES, MAX_BATCH_ROWS, RowReader
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan
from beam_jobs.store.filesystem import is_local

LOCAL_BUFFER_BYTES = 1 << 20
# The reader of gs:// fetches at least this much at a time; a smaller buffer would fetch it repeatedly.
REMOTE_BUFFER_BYTES = 1 << 24


def read_parquet(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads the row groups of a split; rows are numbered from 0 over the whole file.

    Raises:
        DamagedFileError: the file is not Parquet, lacks a required column, or is damaged.
    """
    meter = Meter(on_bytes, split.file.size_bytes)
    with _opened(split.file) as (stored, parquet):
        reader = RowReader(_columns(split.file, parquet), plan)
        _check_encryption(stored, split.file.size_bytes, parquet, plan)
        num_groups = parquet.metadata.num_row_groups
        first_rows = [
            0,
            *accumulate(parquet.metadata.row_group(index).num_rows for index in range(num_groups)),
        ]
        stored_bytes = _group_bytes(parquet.metadata, split.file.size_bytes)
        for index in range(split.start, num_groups if split.end is None else split.end):
            position = first_rows[index]
            for batch in _batches(parquet, index, plan):
                yield from reader.outcomes(batch, position)
                position += batch.num_rows
            meter.add(stored_bytes[index])


def parquet_columns(file: FileInfo) -> FileColumns:
    """Returns the top-level columns of a file.

    Raises:
        DamagedFileError: the file is not Parquet.
    """
    with _opened(file) as (_, parquet):
        return _columns(file, parquet)


def row_group_ranges(file: FileInfo, range_bytes: int) -> list[tuple[int, int]]:
    """Groups a file's row groups into ranges of about ``range_bytes`` stored bytes.

    Raises:
        DamagedFileError: the file is not Parquet.
    """
    with _opened(file) as (_, parquet):
        stored_bytes = _group_bytes(parquet.metadata, file.size_bytes)
    ranges, begun, size = [], 0, 0
    for end, more in enumerate(stored_bytes, 1):
        size += more
        if size >= range_bytes or end == len(stored_bytes):
            ranges.append((begun, end))
            begun, size = end, 0
    return ranges


@contextmanager
def _opened(file: FileInfo) -> Iterator[tuple[StoredFile, pq.ParquetFile]]:
    """Opens a file; errors of Arrow, also while reading, become a DamagedFileError."""
    buffer_bytes = LOCAL_BUFFER_BYTES if is_local(file.path) else REMOTE_BUFFER_BYTES
    with StoredFile(file) as stored:
        try:
            # pre_buffer would read whole columns of the row group.
            with pq.ParquetFile(stored, buffer_size=buffer_bytes, pre_buffer=False) as parquet:
                yield stored, parquet
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if stored.failure is not None:
                raise stored.failure from error
            raise DamagedFileError(
                "damaged",
                f"Expected a Parquet file, but it cannot be read ({error}). Copy or write the file again.",
            ) from error


def _columns(file: FileInfo, parquet: pq.ParquetFile) -> FileColumns:
    schema = parquet.schema_arrow
    return FileColumns.of(file, schema.names, schema.types)


def _batches(parquet: pq.ParquetFile, index: int, plan: ReadPlan) -> Iterator[pa.RecordBatch]:
    """Reads a row group in parts of at most ``BATCH_BYTES``, as far as its own size can be trusted.

    The size of all columns counts: asking for a single one ends the process if its entry in the footer is
    encrypted or damaged, where reading it raises an error.
    """
    group, wanted = parquet.metadata.row_group(index), sorted(set(plan.needed_columns))
    rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)))
    batches: Iterator[pa.RecordBatch] = parquet.iter_batches(rows, row_groups=[index], columns=wanted)
    return batches


def _check_encryption(stored: StoredFile, size_bytes: int, parquet: pq.ParquetFile, plan: ReadPlan) -> None:
    """Raises an error that says what to do about encrypted columns.

    A plain footer of a file with encrypted columns ends with a signature of 28 bytes.
    Source: Parquet modular encryption, "Plaintext footer mode".
    """
    stored.seek(size_bytes - 8)
    footer_bytes = int.from_bytes((stored.read(4) or b""), "little")
    if footer_bytes == parquet.metadata.serialized_size:
        return
    for index in range(parquet.metadata.num_row_groups):
        try:
            next(parquet.iter_batches(1, row_groups=[index], columns=list(plan.needed_columns)), None)
        except OSError as error:
            raise DamagedFileError(
                "encrypted",
                f"Expected Parquet columns that can be read, but {error}. Decrypt the file, or choose "
                "columns that are not encrypted.",
            ) from error


def _group_bytes(metadata: pq.FileMetaData, file_bytes: int) -> list[int]:
    """Returns each row group's share of the file's stored bytes; the shares add up to the file size."""
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    ends = [0, *accumulate(sizes)]
    shares = [file_bytes * end // max(ends[-1], 1) for end in ends]
    return [after - before for before, after in pairwise(shares)]

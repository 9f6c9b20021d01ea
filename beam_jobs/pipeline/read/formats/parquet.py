"""Reads Parquet: row groups in small batches, only the required columns.

The bytes of a batch are bounded by the average size of the row group's rows, and so is the read-ahead of each
column. A single value is decoded before its size is known, because Parquet decodes whole pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from beam_jobs.pipeline.read.arrow_columns import arrow_converter, arrow_values, id_values, repeated_field
from beam_jobs.pipeline.read.column_types import is_id, is_text, number_converters, number_values
from beam_jobs.pipeline.read.documents import Outcomes, RowBuilder
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, StoredFile
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan

BATCH_BYTES = 8_000_000
MAX_BATCH_ROWS = 1_024
LOCAL_BUFFER_BYTES = 1 << 20
# Beam's gs:// reader fetches at least this much at a time; a smaller buffer would fetch it repeatedly.
REMOTE_BUFFER_BYTES = 1 << 24


def read_parquet(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads the row groups of a split; rows are numbered from 0 over the whole file.

    Raises:
        DamagedFileError: the file is not Parquet, lacks a required column, or is damaged.
    """
    meter = Meter(on_bytes, split.file.size_bytes)
    converters = [arrow_converter(field.name, field.type) for field in plan.kept_schema]
    builder = RowBuilder(split.file, plan, [*converters, *number_converters(plan.options)])
    with _opened(split.file) as (stored, parquet):
        _check_columns(parquet.schema_arrow, plan)
        _check_encryption(stored, split.file.size_bytes, parquet, plan)
        chunks = _wanted_chunks(parquet.schema, plan)
        num_groups = parquet.metadata.num_row_groups
        first_rows = [
            0,
            *accumulate(parquet.metadata.row_group(index).num_rows for index in range(num_groups)),
        ]
        stored_bytes = _group_bytes(parquet.metadata, split.file.size_bytes)
        for index in range(split.start, num_groups if split.end is None else split.end):
            position = first_rows[index]
            for batch in _batches(parquet, index, plan, chunks):
                yield from _outcomes(batch, position, builder, plan)
                position += batch.num_rows
            meter.add(stored_bytes[index])


def parquet_columns(file: FileInfo) -> FileColumns:
    """Returns the top-level columns of a file.

    Raises:
        DamagedFileError: the file is not Parquet.
    """
    with _opened(file) as (_, parquet):
        schema = parquet.schema_arrow
        return FileColumns.of(file, schema.names, schema.types)


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
    buffer_bytes = LOCAL_BUFFER_BYTES if FileSystems.get_scheme(file.path) is None else REMOTE_BUFFER_BYTES
    with StoredFile(file) as stored:
        try:
            # pre_buffer would read whole columns of the row group.
            with pq.ParquetFile(stored, buffer_size=buffer_bytes, pre_buffer=False) as parquet:
                yield stored, parquet
        except (pa.ArrowException, OSError) as error:
            if stored.failure is not None:
                raise stored.failure from error
            raise DamagedFileError(
                "damaged",
                f"Expected a Parquet file, but it cannot be read ({error}). Copy or write the file again.",
            ) from error


def _check_columns(schema: pa.Schema, plan: ReadPlan) -> None:
    for name in plan.needed_columns:
        found = len(schema.get_all_field_indices(name))
        if found != 1:
            reason = "repeated_column" if found else "missing_column"
            raise DamagedFileError(
                reason, f"Expected one column {name!r}, but the file has {found} of that name."
            )
    for name in plan.kept_schema.names:
        twice = repeated_field(schema.field(name).type)
        if twice is not None:
            raise DamagedFileError("repeated_column", f"Column {name!r} has more than one field {twice!r}.")
    roles = [(name, "text", is_text) for name in plan.text_columns]
    if plan.options.id_column is not None:
        roles.append((plan.options.id_column, "id", is_id))
    for name, role, is_fit in roles:
        kind = schema.field(name).type
        if not is_fit(kind):
            raise DamagedFileError(
                "column_type", f"Column {name!r} is {kind} in this file, which cannot be the {role}."
            )


def _wanted_chunks(schema: pq.ParquetSchema, plan: ReadPlan) -> list[int]:
    """Returns the positions of the stored columns that the plan needs."""
    wanted = set(plan.needed_columns)
    paths = (schema.column(index).path for index in range(len(schema)))
    return [at for at, path in enumerate(paths) if wanted & {path, path.partition(".")[0]}]


def _batches(
    parquet: pq.ParquetFile, index: int, plan: ReadPlan, chunks: list[int]
) -> Iterator[pa.RecordBatch]:
    group, wanted = parquet.metadata.row_group(index), sorted(set(plan.needed_columns))
    size = sum(group.column(at).total_uncompressed_size for at in chunks)
    rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * group.num_rows // max(size, 1)))
    batches: Iterator[pa.RecordBatch] = parquet.iter_batches(rows, row_groups=[index], columns=wanted)
    return batches


def _check_encryption(stored: StoredFile, size_bytes: int, parquet: pq.ParquetFile, plan: ReadPlan) -> None:
    """Raises an error for encrypted columns, whose sizes end the process when they are asked for.

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


def _outcomes(batch: pa.RecordBatch, position: int, builder: RowBuilder, plan: ReadPlan) -> Outcomes:
    id_column, num_rows = plan.options.id_column, batch.num_rows
    texts = [_text_values(batch.column(name)) for name in plan.text_columns]
    ids = [None] * num_rows if id_column is None else id_values(batch.column(id_column))
    kept = [arrow_values(batch.column(field.name), field.type) for field in plan.kept_schema]
    kept += [number_values(batch.column(name)) for name in plan.options.numeric_columns]
    text_rows, kept_rows = zip(*texts, strict=True), zip(*kept, strict=True) if kept else [()] * num_rows
    has_invalid = any(isinstance(value, UnicodeDecodeError) for column in texts for value in column)
    for row, (parts, id_value, values) in enumerate(zip(text_rows, ids, kept_rows, strict=True), position):
        errors = [part for part in parts if isinstance(part, UnicodeDecodeError)] if has_invalid else ()
        if errors:
            yield builder.undecodable(builder.position_id(row), errors[0], "utf-8")
        else:
            yield builder.build(row, parts, id_value, values)


def _text_values(array: pa.Array) -> list[Any]:
    """Returns a column's texts, with errors in place of invalid UTF-8, which Parquet does not check."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    try:
        values: list[Any] = pc.cast(array, pa.string()).to_pylist()
    except UnicodeDecodeError:
        return [_decoded(value) for value in pc.cast(array, pa.binary()).to_pylist()]
    return values


def _decoded(value: bytes | None) -> str | UnicodeDecodeError | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return error

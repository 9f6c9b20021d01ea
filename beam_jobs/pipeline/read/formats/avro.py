"""Reads Avro: rows in small batches, only the required columns; fastavro decodes the records.

A file is read by one worker: where its blocks begin is known only to who has read those before.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, cast

import fastavro
import pyarrow as pa

from beam_jobs.base.records import DeadLetter
from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.open import BUFFER_BYTES, Meter, OnBytes, StoredFile
from beam_jobs.pipeline.read.formats.avro_container import (
    MAGIC,
    Header,
    damaged,
    iter_blocks,
    read_header,
    write_long,
)
from beam_jobs.pipeline.read.formats.avro_schema import AvroSchema
from beam_jobs.pipeline.read.formats.columnar import BATCH_BYTES, MAX_BATCH_ROWS, RowReader, wanted_top_level
from beam_jobs.pipeline.read.nested import getter
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan

_SYNC = bytes(16)
_BAD_VALUES = (pa.ArrowException, ValueError, TypeError, OverflowError)


def read_avro(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads a file; records are numbered from 0.

    Raises:
        DamagedFileError: the file is not Avro, lacks a required column, or is damaged.
    """
    with closing(_opened(split.file, Meter(on_bytes, split.file.size_bytes))) as stream:
        header = read_header(stream)
        schema = AvroSchema(header.schema)
        columns = schema.columns(split.file)
        reader = RowReader(columns, plan)
        records = _Records(stream, header, schema, wanted_top_level(columns, plan))
        table = _Table(columns, plan)
        position = 0
        for batch in records.batches():
            yield from _outcomes(batch, position, table, reader)
            position += len(batch)


def avro_columns(file: FileInfo) -> FileColumns:
    """Returns the top-level columns of a file.

    Raises:
        DamagedFileError: the file is not Avro.
    """
    with closing(_opened(file, None)) as stream:
        return AvroSchema(read_header(stream).schema).columns(file)


def _opened(file: FileInfo, meter: Meter | None) -> io.BufferedReader:
    return io.BufferedReader(StoredFile(file, meter), BUFFER_BYTES)


class _Records:
    """The records of a file, from a decoder that is given a copy of it without compression."""

    def __init__(
        self, stream: io.BufferedReader, header: Header, schema: AvroSchema, names: Sequence[str]
    ) -> None:
        self._blocks, self._ready, self._num_bytes = iter_blocks(stream, header), io.BytesIO(), 0
        self._begin = _head(json.dumps(schema.plain()).encode())
        self._wanted = schema.plain(set(names))

    def read(self, size: int) -> bytes:
        """Returns the next bytes of the copy, which ends where the file ends."""
        data = self._ready.read(size)
        while len(data) < size:
            block = self._begin or self._next_block()
            if not block:
                return data
            self._begin, self._ready = b"", io.BytesIO(block)
            data += self._ready.read(size - len(data))
        return data

    def _next_block(self) -> bytes:
        count, content = next(self._blocks, (0, b""))
        self._num_bytes += len(content)
        return write_long(count) + write_long(len(content)) + content + _SYNC if count else b""

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the records, in bounded parts; those before an error come first.

        Raises:
            DamagedFileError: the file cannot be read further.
        """
        batch: list[dict[str, Any]] = []
        failure: DamagedFileError | None = None
        # What is not UTF-8 becomes lone surrogates, which the bytes can be restored from.
        options: dict[str, Any] = {"handle_unicode_errors": "surrogateescape"}
        try:
            copy: Any = self
            for record in fastavro.reader(copy, self._wanted, **options):
                batch.append(cast(dict[str, Any], record))
                if len(batch) == MAX_BATCH_ROWS or self._num_bytes > BATCH_BYTES:
                    yield batch
                    batch, self._num_bytes = [], 0
        except DamagedFileError as error:
            failure = error
        except Exception as error:  # fastavro raises errors of many types for what it cannot decode
            failure = damaged(f"a record cannot be decoded ({type(error).__name__})")
            failure.__cause__ = error
        if batch:
            yield batch
        if failure is not None:
            raise failure


def _head(schema: bytes) -> bytes:
    entries = ((b"avro.schema", schema), (b"avro.codec", b"null"))
    sized = (write_long(len(part)) + part for entry in entries for part in entry)
    return MAGIC + write_long(len(entries)) + b"".join(sized) + write_long(0) + _SYNC


class _Table:
    """Converts records to columns."""

    def __init__(self, columns: FileColumns, plan: ReadPlan) -> None:
        self._text_columns = frozenset(plan.text_columns)
        self._columns = [(name, getter(name), columns.find(name)) for name in plan.needed_columns]

    def arrays(self, records: Sequence[dict[str, Any]]) -> dict[str, pa.Array]:
        """Returns the needed columns.

        Raises:
            ValueError, TypeError, pa.ArrowException: a value cannot be represented.
        """
        return {
            name: _array([get(record) for record in records], kind, is_text=name in self._text_columns)
            for name, get, kind in self._columns
        }


def _array(values: list[Any], kind: pa.DataType, *, is_text: bool) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        if not is_text:
            raise
    stored = [None if value is None else value.encode("utf-8", "surrogateescape") for value in values]
    return pa.array(stored, pa.binary()).view(pa.string())  # as in a Parquet file with such bytes


def _outcomes(records: Sequence[dict[str, Any]], position: int, table: _Table, reader: RowReader) -> Outcomes:
    try:
        arrays = table.arrays(records)
    except _BAD_VALUES as error:
        if len(records) == 1:
            yield _dead_letter(position, error, reader)
            return
        for row, record in enumerate(records, position):
            yield from _outcomes([record], row, table, reader)
        return
    yield from reader.rows(arrays, len(records), position)


def _dead_letter(position: int, error: Exception, reader: RowReader) -> DeadLetter:
    builder = reader.builder
    reason = "invalid_encoding" if isinstance(error, UnicodeError) else "column_type"
    message = (
        "A column of the record is not valid UTF-8."
        if isinstance(error, UnicodeError)
        else "A column of the record holds a value that its own type in the file does not allow."
    )
    return builder.dead(builder.position_id(position), reason, message, None, None)

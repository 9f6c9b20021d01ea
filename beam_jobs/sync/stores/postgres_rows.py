"""Rows as PostgreSQL's binary COPY wants them, column by column with NumPy instead of value by value."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import date, datetime
from itertools import chain, repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.errors import UsageError
from beam_jobs.sync.store import Layout

# The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
# Days and microseconds from 1970 to PostgreSQL's epoch, 2000.
_EPOCH_DAYS = 10_957
_EPOCH_MICROSECONDS = _EPOCH_DAYS * 86_400_000_000
_SLICE_ROWS = 2_048
# pgvector's largest vector, and the largest that its HNSW index takes, by type.
MOST_NUMBERS = 16_000
INDEXED_NUMBERS = {"vector": 2_000, "halfvec": 4_000}
_FIXED = {
    "boolean": "u1",
    "integer": ">i4",
    "bigint": ">i8",
    "real": ">f4",
    "double precision": ">f8",
    "date": ">i4",
    "timestamp": ">i8",
    "timestamptz": ">i8",
}


def sql_types(layout: Layout) -> dict[str, str]:
    """Returns the columns with their types in PostgreSQL.

    Raises:
        UsageError: a vector has more numbers than pgvector takes.
    """
    found = {}
    for column in layout.schema:
        dim = layout.dimensions.get(column.name)
        if dim is None:
            found[column.name] = _sql_type(column.type)
            continue
        if dim > MOST_NUMBERS:
            raise UsageError(
                f"{column.name} has {dim} numbers, and pgvector takes at most {MOST_NUMBERS:,}. Use another "
                "store. Nothing was written."
            )
        is_half = pa.types.is_float16(column.type.value_type)
        found[column.name] = f"{'halfvec' if is_half else 'vector'}({dim})"
    return found


def _sql_type(kind: pa.DataType) -> str:
    """Returns the type of a column that is no vector; what PostgreSQL has no like of becomes JSON."""
    types = pa.types
    if types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    for fits, name in (
        (types.is_boolean, "boolean"),
        (lambda t: types.is_integer(t) and t.bit_width <= 32 and not types.is_uint32(t), "integer"),
        (lambda t: types.is_integer(t) and not types.is_uint64(t), "bigint"),
        (lambda t: types.is_float16(t) or types.is_float32(t), "real"),
        (types.is_float64, "double precision"),
        (lambda t: types.is_string(t) or types.is_large_string(t), "text"),
        (lambda t: types.is_binary(t) or types.is_large_binary(t), "bytea"),
        (types.is_date32, "date"),
    ):
        if fits(kind):
            return name
    return "jsonb"


def copy_data(rows: pa.RecordBatch, types: dict[str, str]) -> Iterator[bytes]:
    """Yields the rows for ``COPY … (FORMAT BINARY)``, with header and trailer.

    Args:
        rows: rows with the columns of ``types``.
        types: see ``sql_types``.
    """
    yield HEADER
    count = repeat(struct.pack(">h", len(types)))
    for start in range(0, rows.num_rows, _SLICE_ROWS):
        part = rows.slice(start, _SLICE_ROWS)
        columns = [_fields(part.column(name), kind) for name, kind in types.items()]
        yield b"".join(chain.from_iterable(zip(count, *columns, strict=False)))
    yield TRAILER


def _fields(column: pa.Array, kind: str) -> list[bytes]:
    """Returns each value with its length before it."""
    if kind.startswith(("vector", "halfvec")):
        return _vectors(column, kind)
    if kind in _FIXED:
        return _fixed(column, kind)
    if kind == "jsonb":
        values = [None if v is None else b"\1" + _json(v) for v in column.to_pylist()]
    else:
        values = [v.encode() if isinstance(v, str) else v for v in column.to_pylist()]
    return [_NULL if v is None else struct.pack(">i", len(v)) + v for v in values]


def _vectors(column: pa.Array, kind: str) -> list[bytes]:
    name, _, dim = kind.rstrip(")").partition("(")
    number = ">f4" if name == "vector" else ">f2"
    record = np.dtype([("length", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("numbers", number, int(dim))])
    made = np.zeros(len(column), record)
    made["length"], made["dim"] = record.itemsize - 4, int(dim)
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    made["numbers"] = numbers.reshape(len(column), int(dim))
    return _cut(made)


def _fixed(column: pa.Array, kind: str) -> list[bytes]:
    if kind == "boolean":
        column = column.cast(pa.uint8())
    elif kind == "date":
        column = column.cast(pa.int32())
    elif kind in ("timestamp", "timestamptz"):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    elif pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    epoch = {"date": _EPOCH_DAYS, "timestamp": _EPOCH_MICROSECONDS, "timestamptz": _EPOCH_MICROSECONDS}
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    values = pc.fill_null(column, pa.scalar(0, column.type)).to_numpy(zero_copy_only=False)
    record = np.dtype([("length", ">i4"), ("value", _FIXED[kind])])
    made = np.zeros(len(column), record)
    made["length"], made["value"] = record.itemsize - 4, values - epoch[kind] if kind in epoch else values
    cut = _cut(made)
    for at in np.flatnonzero(nulls):
        cut[at] = _NULL
    return cut


def _cut(records: np.ndarray) -> list[bytes]:
    data, size = records.tobytes(), records.dtype.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_plain).encode()


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, date | datetime) else str(value)

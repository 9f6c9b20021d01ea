"""The columns that rows of every run begin with, and reading rows that were written before one was added."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

FIRST_COLUMNS = (
    pa.field("doc_id", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("text_sha256", pa.string(), nullable=False),
    pa.field("num_tokens", pa.int32(), nullable=False),
    pa.field("was_truncated", pa.bool_(), nullable=False),
    pa.field("num_unknown_tokens", pa.int32()),
)
# Rows of older releases lack it, and are read as null.
ADDED = FIRST_COLUMNS[-1]
_PLACE = len(FIRST_COLUMNS) - 1


def has_added(schema: pa.Schema) -> bool:
    """Whether rows have that column; older ones may have one of the input's that has its name."""
    return bool(schema.get_field_index(ADDED.name) == _PLACE)


def without_added(schema: pa.Schema) -> pa.Schema:
    """Returns a schema without that column."""
    return schema.remove(_PLACE) if has_added(schema) else schema


def with_added(schema: pa.Schema) -> pa.Schema:
    """Returns a schema with that column."""
    return without_added(schema).insert(_PLACE, ADDED)


def lacking(schema: pa.Schema, columns: Iterable[str]) -> list[str]:
    """Returns the columns that rows lack, apart from the one of which older rows are read as null."""
    found = set(schema.names)
    if not has_added(schema):
        found ^= {ADDED.name}  # absent is as good as null; another column of that name is not
    return sorted(set(columns) - found)


def column_of(rows: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """Returns a column of rows, with the type of a field; nulls if older rows lack it."""
    if field.equals(ADDED) and field.name not in rows.schema.names:
        return pa.nulls(rows.num_rows, field.type)
    return rows.column(field.name).cast(field.type)

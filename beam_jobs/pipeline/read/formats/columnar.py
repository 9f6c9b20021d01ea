"""Rows of Parquet, ORC and Avro, whose files state the types of their columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.pipeline.read.arrow_columns import arrow_converter, arrow_values, id_values, repeated_field
from beam_jobs.pipeline.read.column_types import is_id, is_text, number_converters, number_values
from beam_jobs.pipeline.read.documents import Outcomes, RowBuilder
from beam_jobs.pipeline.read.nested import nested_column
from beam_jobs.pipeline.read.stated_types import stated_converter, stated_values
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, ReadPlan

# Rows of a batch, and about how many bytes.
MAX_BATCH_ROWS = 1_024
BATCH_BYTES = 8_000_000


class RowReader:
    """Converts columns to documents and dead letters.

    Args:
        columns: the columns of the file.
        plan: their roles.

    Raises:
        DamagedFileError: the file lacks a required column, or its type does not fit.
    """

    def __init__(self, columns: FileColumns, plan: ReadPlan) -> None:
        _check_columns(columns, plan)
        stated = dict(plan.options.column_types)
        converters = [
            (stated_converter if field.name in stated else arrow_converter)(field.name, field.type)
            for field in plan.kept_fields
        ]
        self.builder = RowBuilder(columns.file, plan, [*converters, *number_converters(plan.options)])
        self._plan, self._stated = plan, stated
        self._names, self._kept_fields = plan.needed_columns, plan.kept_fields

    def outcomes(self, batch: pa.RecordBatch, position: int) -> Outcomes:
        """Converts a batch whose first row is at ``position`` of the file."""
        arrays = {name: nested_column(batch, name) for name in self._names}
        yield from self.rows(arrays, batch.num_rows, position)

    def rows(self, arrays: dict[str, pa.Array], num_rows: int, position: int) -> Outcomes:
        """Converts columns of equal length by their names in the plan."""
        plan, builder, id_column = self._plan, self.builder, self._plan.options.id_column
        texts = [_text_values(arrays[name]) for name in plan.text_columns]
        ids = [None] * num_rows if id_column is None else id_values(arrays[id_column])
        kept = [
            (stated_values if field.name in self._stated else arrow_values)(arrays[field.name], field.type)
            for field in self._kept_fields
        ]
        kept += [number_values(arrays[name]) for name in plan.options.numeric_columns]
        text_rows, kept_rows = zip(*texts, strict=True), zip(*kept, strict=True) if kept else [()] * num_rows
        has_invalid = any(isinstance(value, UnicodeDecodeError) for column in texts for value in column)
        for row, (parts, id_value, values) in enumerate(
            zip(text_rows, ids, kept_rows, strict=True), position
        ):
            errors = [part for part in parts if isinstance(part, UnicodeDecodeError)] if has_invalid else ()
            if errors:
                yield builder.undecodable(builder.position_id(row), errors[0], "utf-8")
            else:
                yield builder.build(row, parts, id_value, values)


def wanted_top_level(columns: FileColumns, plan: ReadPlan) -> list[str]:
    """Returns the columns of a file that hold what the plan needs."""
    names = plan.needed_columns
    return list(dict.fromkeys(name if name in columns.types else name.partition(".")[0] for name in names))


def _check_columns(columns: FileColumns, plan: ReadPlan) -> None:
    repeated = set(columns.repeated)
    for name in plan.needed_columns:
        if name in repeated:
            raise DamagedFileError(
                "repeated_column", f"Expected one column {name!r}, but the file has more than one."
            )
        if columns.find(name) is None:
            raise DamagedFileError(
                "missing_column", f"Expected one column {name!r}, but the file has 0 of that name."
            )
    for field in plan.kept_fields:
        twice = repeated_field(_found(columns, field.name))
        if twice is not None:
            raise DamagedFileError(
                "repeated_column", f"Column {field.name!r} has more than one field {twice!r}."
            )
    for name in plan.text_columns:
        _check_role(columns, name, "text", is_text)
    if plan.options.id_column is not None:
        _check_role(columns, plan.options.id_column, "id", is_id)


def _check_role(columns: FileColumns, name: str, role: str, is_fit: Callable[[pa.DataType], bool]) -> None:
    kind = _found(columns, name)
    if not is_fit(kind):
        raise DamagedFileError(
            "column_type", f"Column {name!r} is {kind} in this file, which cannot be the {role}."
        )


def _found(columns: FileColumns, name: str) -> pa.DataType:
    kind = columns.find(name)
    assert kind is not None
    return kind


def _text_values(array: pa.Array) -> list[Any]:
    """Returns a column's texts, with errors in place of invalid UTF-8, which these formats do not check."""
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

"""Reads JSON Lines: one JSON object per line, its members are the columns.

Lines with only white space are skipped. NaN and Infinity, which Python writes, are accepted. A byte order
mark at the beginning of the file is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadLetter
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.column_types import (
    json_converter,
    json_type,
    merge_json_types,
    number_converters,
)
from beam_jobs.pipeline.read.documents import Outcomes, RecordError, RowBuilder
from beam_jobs.pipeline.read.files.encoding import BOM_UTF8, line_encoding
from beam_jobs.pipeline.read.files.lines import Oversized, is_splittable, split_lines
from beam_jobs.pipeline.read.files.open import OnBytes
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan

# Maximum rows and bytes from which the types of kept columns are inferred.
INSPECTED_ROWS = 1_000
INSPECTED_BYTES = 8_000_000


def read_jsonl(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads the lines that begin in a split, one record per line.

    Raises:
        DamagedFileError: the file cannot be read further.
    """
    options = plan.options
    converters = [json_converter(field.name, field.type) for field in plan.kept_schema]
    builder = RowBuilder(split.file, plan, [*converters, *number_converters(options)])
    text_columns, id_column, carried_columns = plan.text_columns, options.id_column, plan.carried_columns
    encoding = line_encoding(options.encoding)
    for position, line in _records(split, options, on_bytes):
        record = _parsed(builder, builder.position_id(position), line, encoding)
        if isinstance(record, DeadLetter):
            yield record
            continue
        get = record.get
        id_value = None if id_column is None else get(id_column)
        yield builder.build(position, [*map(get, text_columns)], id_value, [*map(get, carried_columns)])


def jsonl_columns(file: FileInfo, options: ReadOptions) -> FileColumns | None:
    """Infers the columns of a file's first rows and their types; None if there are none.

    Raises:
        DamagedFileError: the file cannot be read at all.
        UsageError: most of its first lines are not JSON objects.
    """
    columns: dict[str, pa.DataType] = {}
    num_lines = num_broken = 0
    for record in _first_objects(file, options):
        num_lines += 1
        num_broken += record is None
        for name, value in (record or {}).items():
            found = json_type(value)
            columns[name] = merge_json_types(columns[name], found) if name in columns else found
    if 2 * num_broken > num_lines:
        raise UsageError(
            f"Expected {file.path} to have one JSON object per line, but {num_broken:,} of its first "
            f"{num_lines:,} lines are none. Convert a JSON array with: jq -c '.[]', and objects over several "
            "lines with: jq -c ."
        )
    return FileColumns(file, columns) if columns else None


def _first_objects(file: FileInfo, options: ReadOptions) -> Iterator[dict[str, Any] | None]:
    """Yields the first rows, None for those that become dead letters when they are read."""
    encoding, num_bytes = line_encoding(options.encoding), 0
    try:
        for _, line in islice(_records(FileSplit(file), options), INSPECTED_ROWS):
            if isinstance(line, bytes):
                num_bytes += len(line)
                try:
                    record: dict[str, Any] | None = _object(line.decode(encoding, "replace"))
                except RecordError:
                    record = None
                yield record
            if num_bytes > INSPECTED_BYTES:
                return
    except DamagedFileError:
        if not num_bytes:
            raise


def _records(
    split: FileSplit, options: ReadOptions, on_bytes: OnBytes | None = None
) -> Iterator[tuple[int, bytes | Oversized]]:
    """Yields the lines that are not blank, with their offset or record number."""
    splittable, number = is_splittable(split.file, options.encoding), 0
    for position, line in split_lines(split, options.encoding, options.max_document_bytes, on_bytes):
        content = line
        if isinstance(content, bytes):
            if position == 0:
                content = content.removeprefix(BOM_UTF8)
            if not content or content.isspace():
                continue
        yield (position if splittable else number), content
        number += 1


def _parsed(
    builder: RowBuilder, doc_id: str, line: bytes | Oversized, encoding: str
) -> dict[str, Any] | DeadLetter:
    if isinstance(line, Oversized):
        head = line.head.decode(encoding, "replace")
        return builder.oversized(doc_id, head, line.sha256, line.num_bytes)
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        return builder.undecodable(doc_id, error, encoding)
    try:
        return _object(text)
    except RecordError as error:
        return builder.dead(doc_id, error.reason, str(error), text, line)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(
            "broken_json", f"Expected one JSON object: {error.msg} at character {error.pos}."
        ) from error
    except ValueError as error:
        raise RecordError(
            "broken_json", "Expected one JSON object, but it has a number with too many digits."
        ) from error
    except RecursionError as error:
        raise RecordError("broken_json", "Expected one JSON object, but it is nested too deeply.") from error
    if type(value) is not dict:
        what = type(value).__name__
        raise RecordError("broken_json", f"Expected one JSON object, but the line is a value of type {what}.")
    return value

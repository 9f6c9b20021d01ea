"""Reads JSON Lines: one JSON object per line, its members are the columns.

Lines with only white space are skipped. NaN and Infinity, which Python writes, are accepted. A byte order
mark at the beginning of the file is skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadLetter
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.column_types import (
    json_converter,
    json_number,
    json_type,
    merge_json_types,
    number_converters,
)
from beam_jobs.pipeline.read.documents import Outcomes, RowBuilder
from beam_jobs.pipeline.read.files.encoding import BOM_UTF8, line_encoding
from beam_jobs.pipeline.read.files.lines import Oversized, is_splittable, split_lines
from beam_jobs.pipeline.read.files.open import OnBytes
from beam_jobs.pipeline.read.nested import getter
from beam_jobs.pipeline.read.record_error import RecordError
from beam_jobs.pipeline.read.stated_types import stated_converter
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan

# Maximum rows and bytes from which the types of kept columns are inferred.
INSPECTED_ROWS = 1_000
INSPECTED_BYTES = 8_000_000
PARSED_BYTES = 1_000


class _RepeatedNameError(ValueError):
    """An object has two members of one name, of which Python would keep the last without a word."""


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _RepeatedNameError(max(counts, key=counts.__getitem__))
    return members


# What parses a record wherever one stands.
DECODER = json.JSONDecoder(object_pairs_hook=_unique_members, parse_float=json_number)

# A record: parsed, or its bytes where it is not, or may be no object.
JsonRecord = dict[str, Any] | bytes | Oversized


def read_jsonl(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads the lines that begin in a split, one record per line.

    Raises:
        DamagedFileError: the file cannot be read further.
    """
    return record_outcomes(_records(split, plan.options, on_bytes), split.file, plan)


def record_outcomes(records: Iterator[tuple[int, JsonRecord]], file: FileInfo, plan: ReadPlan) -> Outcomes:
    """Converts records, each with its position in the file."""
    options, stated = plan.options, dict(plan.options.column_types)
    converters = [
        (stated_converter if field.name in stated else json_converter)(field.name, field.type)
        for field in plan.kept_fields
    ]
    builder = RowBuilder(file, plan, [*converters, *number_converters(options)])
    texts, carried = ([*map(getter, names)] for names in (plan.text_columns, plan.carried_columns))
    get_id = None if options.id_column is None else getter(options.id_column)
    encoding = line_encoding(options.encoding)
    for position, line in records:
        record = _parsed(builder, builder.position_id(position), line, encoding)
        if isinstance(record, DeadLetter):
            yield record
            continue
        id_value = None if get_id is None else get_id(record)
        yield builder.build(
            position, [get(record) for get in texts], id_value, [get(record) for get in carried]
        )


def jsonl_columns(file: FileInfo, options: ReadOptions) -> FileColumns | None:
    """Infers the columns of a file's first rows and their types; None if there are none.

    Raises:
        DamagedFileError: the file cannot be read at all.
        UsageError: most of its first lines are not JSON objects.
    """
    lines = (line for _, line in _records(FileSplit(file), options))
    return record_columns(lines, file, options)


def record_columns(records: Iterator[JsonRecord], file: FileInfo, options: ReadOptions) -> FileColumns | None:
    """Infers columns and their types, see ``jsonl_columns``; nested ones where an option names them."""
    columns: dict[str, pa.DataType] = {}
    nested = [(name, getter(name)) for name in _named_columns(options) if "." in name]
    num_records = num_broken = 0
    for record in _first_objects(records, line_encoding(options.encoding)):
        num_records += 1
        num_broken += record is None
        found = dict(record or {})
        found |= {name: value for name, get in nested if (value := get(found)) is not None}
        for name, value in found.items():
            kind = json_type(value)
            columns[name] = merge_json_types(columns[name], kind) if name in columns else kind
    if 2 * num_broken > num_records:
        what, way_out = "record", "Check --input_format and --encoding."
        if file.format == "jsonl":
            what = "line"
            way_out = "Read a JSON array, or objects over several lines, with --input_format json."
        raise UsageError(
            f"Expected {file.path} to have one JSON object per {what}, but {num_broken:,} of its first "
            f"{num_records:,} {what}s are none. {way_out}"
        )
    return FileColumns(file, columns) if columns else None


def _named_columns(options: ReadOptions) -> tuple[str, ...]:
    ids = () if options.id_column is None else (options.id_column,)
    texts = (*options.text_columns, *options.text_pair_columns)
    return (*texts, *ids, *options.keep_columns, *options.numeric_columns)


def _first_objects(records: Iterator[JsonRecord], encoding: str) -> Iterator[dict[str, Any] | None]:
    """Yields the first rows, None for those that become dead letters when they are read."""
    num_bytes = num_records = 0
    try:
        for record in islice(records, INSPECTED_ROWS):
            num_records += 1
            if isinstance(record, Oversized):
                continue
            # The size of a record that is parsed already is not known, but bounded.
            num_bytes += len(record) if isinstance(record, bytes) else PARSED_BYTES
            yield _object_or_none(record, encoding)
            if num_bytes > INSPECTED_BYTES:
                return
    except DamagedFileError:
        if not num_records:
            raise


def _object_or_none(record: dict[str, Any] | bytes, encoding: str) -> dict[str, Any] | None:
    if isinstance(record, dict):
        return record
    try:
        return _object(record.decode(encoding, "replace"))
    except RecordError:
        return None


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


def _parsed(builder: RowBuilder, doc_id: str, line: JsonRecord, encoding: str) -> dict[str, Any] | DeadLetter:
    if isinstance(line, dict):
        return line
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
        value = DECODER.decode(text)
    except _RepeatedNameError as error:
        raise RecordError(
            "broken_json",
            f"Expected one JSON object, but the name {str(error)!r} stands twice in one object.",
        ) from error
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

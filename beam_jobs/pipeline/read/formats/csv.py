"""Reads CSV and TSV by RFC 4180: a header row, then one record per row.

Quoted fields may contain line breaks. Blank lines are skipped, as in Python's csv module, and so is a byte
order mark. Every value is a string; an empty one is a missing text.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice

import pyarrow as pa

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadLetter
from beam_jobs.base.units import count
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.column_types import number_converters, unchanged
from beam_jobs.pipeline.read.documents import Outcomes, RowBuilder
from beam_jobs.pipeline.read.files.encoding import line_encoding
from beam_jobs.pipeline.read.files.lines import Oversized
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, open_lines
from beam_jobs.pipeline.read.formats.csv_records import BadRecord, Record, iter_records
from beam_jobs.pipeline.read.stated_types import stated_converter
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan

# Number of records that are looked at before work.
INSPECTED_RECORDS = 100
_OVERSIZED_HINT = " If it should be many records, an unclosed quote may have joined them."


def read_delimited(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads a whole CSV or TSV file; records are numbered from 0 after the header.

    Raises:
        DamagedFileError: the file cannot be read further, or its header lacks a required column.
    """
    file, options = split.file, plan.options
    with closing(open_lines(file, options.encoding, Meter(on_bytes, file.size_bytes))) as stream:
        records = _records(stream, file, options)
        header = _header(records, options)
        if header is not None:
            yield from _outcomes(records, header, file, plan)


def delimited_columns(file: FileInfo, options: ReadOptions) -> FileColumns | None:
    """Returns the columns of a file, all of them strings; None for an empty file.

    Raises:
        DamagedFileError: the file has no usable header.
    """
    with closing(open_lines(file, options.encoding)) as stream:
        header = _header(_records(stream, file, options), options)
    return None if header is None else FileColumns.of(file, header, [pa.string()] * len(header))


def check_fields(file: FileInfo, options: ReadOptions) -> None:
    """Rejects a file if most of its first records have another number of fields than the header.

    Raises:
        UsageError: with both numbers and the way out.
    """
    numbers: Counter[int | None] = Counter()
    with closing(open_lines(file, options.encoding)) as stream:
        records = _records(stream, file, options)
        with suppress(DamagedFileError):  # reported when it is read
            header = _header(records, options) or ()
            for record in islice(records, INSPECTED_RECORDS):
                numbers[record.num_fields if isinstance(record, BadRecord) else None] += 1
    (usual, number), *_ = numbers.most_common(1) or [(None, 0)]
    if usual is not None and 2 * number > numbers.total():
        way_out = "Check --delimiter and the header, or name the columns with --column_names."
        if usual == len(header) + 1:
            way_out = f"If every row ends with a delimiter, end the header with one, too. {way_out}"
        raise UsageError(
            f"Expected the records of {file.path} to have {count(len(header), 'field')} as its header, but "
            f"{number:,} of the first {numbers.total():,} have {usual}. {way_out}"
        )


def _records(stream: io.BufferedReader, file: FileInfo, options: ReadOptions) -> Iterator[Record]:
    return iter_records(
        stream,
        line_encoding(options.encoding),
        options.max_document_bytes,
        delimiter="\t" if file.format == "tsv" else options.delimiter or ",",
        quotes=options.csv_quotes,
        num_fields=len(options.column_names) or None,
        comment=options.comment_prefix,
    )


def _header(records: Iterator[Record], options: ReadOptions) -> Sequence[str] | None:
    """Returns the column names; consumes the header row if there is one."""
    if options.column_names:
        return options.column_names
    first = next(records, None)
    if first is None or isinstance(first, list):
        return first
    why = "is too large" if isinstance(first, Oversized) else first.why or "is not in the encoding"
    raise DamagedFileError(
        "bad_csv_header",
        f"Expected a header row with the names of the columns, but the first row cannot be read: {why}. "
        "Repair it, check --encoding and --delimiter, or name the columns with --column_names.",
    )


def _outcomes(records: Iterator[Record], header: Sequence[str], file: FileInfo, plan: ReadPlan) -> Outcomes:
    id_column, numbers = plan.options.id_column, Counter(header)
    positions = {name: index for index, name in enumerate(header) if numbers[name] == 1}
    texts_at, id_at, carried_at = (
        [_index(positions, numbers, name) for name in names]
        for names in (plan.text_columns, () if id_column is None else (id_column,), plan.carried_columns)
    )
    converters = [
        unchanged if field.type == pa.string() else stated_converter(field.name, field.type)
        for field in plan.kept_fields
    ]
    converters += number_converters(plan.options)
    builder = RowBuilder(file, plan, converters)
    encoding = line_encoding(plan.options.encoding)
    for number, record in enumerate(records):
        if isinstance(record, list):
            id_value = record[id_at[0]] if id_at else None
            yield builder.build(
                number, [record[at] for at in texts_at], id_value, [record[at] for at in carried_at]
            )
        else:
            yield _dead_letter(builder, builder.position_id(number), record, encoding)


def _index(positions: Mapping[str, int], numbers: Mapping[str, int], name: str) -> int:
    """Finds a column; the error does not show the header, which may be text in a file without one."""
    if name in positions:
        return positions[name]
    reason, what = (
        ("repeated_column", "more than one column") if name in numbers else ("missing_column", "no column")
    )
    raise DamagedFileError(reason, f"Expected one column {name!r}, but the header has {what} of that name.")


def _dead_letter(
    builder: RowBuilder, doc_id: str, record: BadRecord | Oversized, encoding: str
) -> DeadLetter:
    if isinstance(record, Oversized):
        head = record.head.decode(encoding, "replace")
        return builder.oversized(doc_id, head, record.sha256, record.num_bytes, _OVERSIZED_HINT)
    try:
        text = record.data.decode(encoding)
    except UnicodeDecodeError as error:
        return builder.undecodable(doc_id, error, encoding)
    message = f"Expected a row by RFC 4180, but {record.why}. Repair the row."
    return builder.dead(doc_id, "bad_csv_row", message, text, record.data)

"""Selects the columns of text, id, kept values and numeric inputs before any work."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice

import pyarrow as pa

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.units import count
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.arrow_columns import repeated_field
from beam_jobs.pipeline.read.column_types import (
    is_id,
    is_number,
    is_text,
    json_output_type,
    merge_json_types,
    plain_type,
)
from beam_jobs.pipeline.read.stated_types import STATED
from beam_jobs.pipeline.read.types import BINARY_FORMATS, JSON_FORMATS, FileColumns

# Output columns that every run has, or that readers know the rows of a run by; more begin with "embedding".
# Others, as labels and words, are reserved only where a run writes them (see ``row_schema``).
RESERVED_COLUMNS = frozenset(
    [
        *("doc_id", "source", "text", "text_sha256", "num_tokens", "was_truncated"),
        *("num_unknown_tokens", "window_index", "word_index"),
    ]
)


_MAX_LISTED = 100


def check_output_names(options: ReadOptions, text_columns: Sequence[str] = ()) -> None:
    """Rejects kept columns that clash with output columns; upper and lower case do not count.

    Raises:
        UsageError: with the column.
    """
    for name, output_name in zip(options.keep_columns, options.output_names, strict=True):
        if output_name == "text" and tuple(text_columns) == (name,):
            continue  # the same as --keep_text
        if output_name.lower() in RESERVED_COLUMNS or output_name.lower().startswith("embedding"):
            raise UsageError(
                f"--keep_columns {name!r}: the output has a column {output_name.lower()!r}. Give it another "
                f"name with --rename_columns {name}=NEW."
            )


def check_no_text(text_columns: Sequence[str], options: ReadOptions) -> None:
    """Rejects ``--no_text`` where text would be written as or inside a kept column, or as the id.

    Raises:
        UsageError: with the column.
    """
    for flag, names in (("--keep_columns", options.keep_columns), ("--id_column", (options.id_column,))):
        for name in names if options.no_text else ():
            text = next((text for text in text_columns if text == name or text.startswith(f"{name}.")), None)
            if text is not None:
                what = "is" if text == name else f"contains {text!r},"
                raise UsageError(
                    f"{flag} {name!r} {what} the text, which --no_text keeps out of the output. Leave out "
                    "one of the two flags."
                )


def merge_json(found: Sequence[FileColumns]) -> list[FileColumns]:
    """Merges the columns of all JSON files, as a record need not have every column."""
    apart = [columns for columns in found if columns.file.format not in JSON_FORMATS]
    json_files = [columns for columns in found if columns.file.format in JSON_FORMATS and columns.types]
    merged: dict[str, pa.DataType] = {}
    for columns in json_files:
        for name, kind in columns.types.items():
            merged[name] = merge_json_types(merged[name], kind) if name in merged else kind
    return [*apart, FileColumns(json_files[0].file, merged)] if json_files else apart


def choose_text(found: Sequence[FileColumns], options: ReadOptions) -> tuple[str, ...]:
    """Selects the text columns.

    Args:
        found: one entry per inspected file with columns; empty if all files are empty.
        options: names the columns; otherwise it is ``text``, or the only column that is not id, kept or a
            numeric input.

    Raises:
        UsageError: there is no such column, it is not text, or the choice is ambiguous.

    Returns:
        The columns of the text, then those of the second one where documents are pairs.
    """
    names = options.text_columns or _obvious_text(found, options)
    chosen = {"--text_column": names, "--text_pair_column": options.text_pair_columns}
    if set(names) & set(options.text_pair_columns):
        raise UsageError("--text_pair_column names the column of the first text, too; add --text_column.")
    for flag, own in chosen.items():
        _check_text(flag, own, found, options)
    return (*names, *options.text_pair_columns)


def _check_text(flag: str, names: Sequence[str], found: Sequence[FileColumns], options: ReadOptions) -> None:
    if names:
        _check_not_null(flag, names, found)
    for columns in found:
        for name in names:
            kind = _type_of(name, columns, flag, options)
            if not is_text(kind):
                raise UsageError(
                    f"{flag} {name!r} is {kind} in {columns.file.path}, but text is expected."
                    f"{_cast_hint(kind)}"
                )


def _check_not_null(flag: str, names: Sequence[str], found: Sequence[FileColumns]) -> None:
    """Rejects files whose text columns all have the null type by their schema: there is no text in them."""
    kinds = [columns.find(name) for columns in found for name in names]
    if found and found[0].file.format in BINARY_FORMATS and all(kind == pa.null() for kind in kinds):
        raise UsageError(
            f"{flag} {', '.join(names)}: the type is null in {found[0].file.path}, so there is no "
            "text in it. Choose another column, or write the file again with the texts."
        )


def _cast_hint(kind: pa.DataType) -> str:
    kind = plain_type(kind)
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return " If the bytes are UTF-8, cast the column to a string, in DuckDB with decode(column)."
    return ""


def check_id(found: Sequence[FileColumns], options: ReadOptions) -> None:
    """Rejects an id column that does not exist or holds neither strings nor integers.

    Raises:
        UsageError: with the file.
    """
    if options.id_column is None:
        return
    for columns in found:
        kind = _type_of(options.id_column, columns, "--id_column", options)
        if not is_id(kind):
            raise UsageError(
                f"--id_column {options.id_column!r} is {kind} in {columns.file.path}, but strings or "
                "integers are expected."
            )


def check_numbers(found: Sequence[FileColumns], options: ReadOptions) -> None:
    """Rejects numeric input columns that do not exist or cannot hold numbers.

    Raises:
        UsageError: with the column and the file.
    """
    for columns in found:
        for name in options.numeric_columns:
            kind = _type_of(name, columns, "The model takes numbers from columns, but", options)
            if not is_number(kind):
                raise UsageError(
                    f"The model takes numbers from column {name!r}, but in {columns.file.path} it is {kind}."
                )


def kept_schema(
    found: Sequence[FileColumns], options: ReadOptions, partition_columns: Sequence[str] = ()
) -> pa.Schema:
    """Returns the schema of the kept columns under their output names; strings if their type is unknown.

    Raises:
        UsageError: there is no such column, or files disagree on its type.
    """
    names = zip(options.keep_columns, options.output_names, strict=True)
    stated, apart = dict(options.column_types), set(partition_columns)
    fields = []
    for name, output_name in names:
        kind = pa.string() if name in apart else _kept_type(name, found, options, is_stated=name in stated)
        fields.append(pa.field(output_name, STATED[stated[name]] if name in stated else kind))
    return pa.schema(fields)


def _kept_type(
    name: str, found: Sequence[FileColumns], options: ReadOptions, *, is_stated: bool
) -> pa.DataType:
    known: dict[pa.DataType, str] = {}
    for columns in found:
        kind = plain_type(_type_of(name, columns, "--keep_columns", options))
        if columns.file.format in JSON_FORMATS:
            kind = json_output_type(kind)
        twice = repeated_field(kind)
        if twice is not None:
            raise UsageError(
                f"--keep_columns {name!r} has more than one field {twice!r} in {columns.file.path}. Leave "
                "the column out, or rename the field in the input."
            )
        if pa.types.is_union(kind):
            raise UsageError(
                f"--keep_columns {name!r} is {kind} in {columns.file.path}, but values of several types in "
                "one column cannot be kept. Leave the column out."
            )
        if not pa.types.is_null(kind):
            known.setdefault(kind, columns.file.path)
    if len(known) > 1 and not is_stated:
        listed = " and ".join(f"{kind} in {path}" for kind, path in known.items())
        raise UsageError(
            f"--keep_columns {name!r} is {listed}. State the type to keep with --column_types, such as "
            f"--column_types {name}=string, or read them in two runs."
        )
    return next(iter(known), pa.string())


def _obvious_text(found: Sequence[FileColumns], options: ReadOptions) -> tuple[str, ...]:
    choices: dict[str, FileColumns] = {}
    for columns in found:
        choices.setdefault(_obvious_in(columns, options), columns)
    if len(choices) > 1:
        listed = " and ".join(f"{name!r} in {columns.file.path}" for name, columns in choices.items())
        raise UsageError(
            f"The text could be {listed}. Read them in two runs, or choose a column with --text_column."
        )
    return tuple(choices) or ("text",)


def _obvious_in(columns: FileColumns, options: ReadOptions) -> str:
    if "text" in columns.types:
        return "text"
    if "text" in columns.repeated:
        raise _repeated("text", columns, "The text column")
    _check_header(columns, options)
    taken = {
        options.id_column,
        *options.keep_columns,
        *options.numeric_columns,
        *options.text_pair_columns,
    }
    others = [name for name in (*columns.types, *columns.repeated) if name not in taken]
    if len(others) != 1:
        raise UsageError(
            f"Which column is the text? Choose it with --text_column. {_listing(columns, options)}"
        )
    return others[0]


def _check_header(columns: FileColumns, options: ReadOptions) -> None:
    """Rejects a header of one column that looks like several, or like a line before the header."""
    if columns.file.format not in ("csv", "tsv") or options.column_names:
        return
    names, path = (*columns.types, *columns.repeated), columns.file.path
    first = names[0] if names else ""
    if first.lower().startswith("sep="):
        raise UsageError(
            f"{path} begins with a line for spreadsheets that names its delimiter. Skip it with "
            "--comment_prefix sep= and give the delimiter with --delimiter."
        )
    mark = next((mark for mark in ("#", "//", "--") if first.startswith(mark)), None)
    if mark is not None:
        raise UsageError(
            f"{path} begins with a line that looks like a comment. Skip such lines with --comment_prefix "
            f"{mark!r}; if it is the header, choose the column with --text_column."
        )
    if len(names) > 1 or options.delimiter is not None:
        return
    if columns.file.format == "tsv" and "," in first:
        raise UsageError(
            f"{path} has no tab in its header, but ','. If that separates the columns, rename the file to "
            ".csv; otherwise choose the column with --text_column."
        )
    guess = next((char for char in ";\t|" if char in first), None)
    if columns.file.format == "csv" and guess is not None:
        raise UsageError(
            f"{path} has no comma in its header, but {guess!r}. If that separates the columns, "
            f"give --delimiter {guess!r}; otherwise choose the column with --text_column."
        )


def _repeated(name: str, columns: FileColumns, flag: str) -> UsageError:
    return UsageError(
        f"{flag} {name!r} is the name of more than one column of {columns.file.path}. Rename all but one of "
        "them in the input, or choose another column."
    )


def _type_of(name: str, columns: FileColumns, flag: str, options: ReadOptions) -> pa.DataType:
    kind = columns.find(name)
    if kind is not None:
        return kind
    if name in columns.repeated:
        raise _repeated(name, columns, flag)
    _check_header(columns, options)
    near = difflib.get_close_matches(name, columns.types, n=1)
    hint = f" Did you mean {near[0]!r}?" if near and not _hides_names(columns, options) else ""
    raise UsageError(
        f"{flag} {name!r} is not a column of {columns.file.path}.{hint} {_listing(columns, options)}"
    )


def _listing(columns: FileColumns, options: ReadOptions) -> str:
    is_csv = columns.file.format in ("csv", "tsv") and not options.column_names
    hint = " If its first row is not a header, name the columns with --column_names." if is_csv else ""
    if _hides_names(columns, options):
        return f"It has {count(len(columns.types), 'column')}; --no_text hides their names.{hint}"
    more = f" and {len(columns.types) - _MAX_LISTED:,} more" if len(columns.types) > _MAX_LISTED else ""
    listed = ", ".join(map(repr, islice(columns.types, _MAX_LISTED))) or "none"
    return f"It has: {listed}{more}.{hint}"


def _hides_names(columns: FileColumns, options: ReadOptions) -> bool:
    """Whether column names may be input text, as in a CSV file without a header row."""
    return options.no_text and columns.file.format in ("csv", "tsv") and not options.column_names

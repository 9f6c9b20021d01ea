"""Inspects the input before work: files, columns, and whether the options fit them."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from beam_jobs.base.config import ReadOptions
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.column_selection import (
    check_id,
    check_no_text,
    check_numbers,
    check_output_names,
    choose_text,
    kept_schema,
    merge_json,
)
from beam_jobs.pipeline.read.files.encoding import check_encoding, check_head
from beam_jobs.pipeline.read.files.open import open_decompressed
from beam_jobs.pipeline.read.files.partitions import partition_values
from beam_jobs.pipeline.read.files.patterns import CheckPath, check_ids, match_patterns
from beam_jobs.pipeline.read.formats.csv import check_fields
from beam_jobs.pipeline.read.formats.readers import READERS
from beam_jobs.pipeline.read.splits import is_one_split
from beam_jobs.pipeline.read.types import BINARY_FORMATS, DamagedFileError, FileColumns, FileInfo, ReadPlan

# Opening a file on remote storage takes about 0.1 s. Other files are assumed to be alike; those that are not
# become dead files when they are read.
MAX_INSPECTED_FILES = 20
HEAD_BYTES = 1 << 18
# Pointers of Git LFS have some 130 bytes.
LARGEST_POINTER_BYTES = 1024
# One worker reads about 50 MB/s, so such a file takes 20 s or more.
LARGE_FILE_BYTES = 1_000_000_000
# How other files begin, their format or ending, and the value of --input_format if it is a format.
_MAGIC = (
    *((b"PAR1", "Parquet", "parquet"), (b"Obj\x01", "Avro", "avro"), (b"ORC", "ORC", "orc")),
    *((b"\x1f\x8b", "gz", None), (b"BZh", "bz2", None), (b"\x28\xb5\x2f\xfd", "zst", None)),
)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputSummary:
    """The input of a job, inspected before any work.

    ``files`` are in reading order. ``text_columns`` is empty if all files are .txt. ``kept_schema`` has the
    ``--keep_columns`` in their order, with their names in the output. ``warnings`` are messages for the user.
    ``partition_columns`` are kept columns that the folders' names hold, with their names in the input.
    """

    files: tuple[FileInfo, ...]
    total_bytes: int
    text_columns: tuple[str, ...]
    kept_schema: pa.Schema
    warnings: tuple[str, ...] = ()
    partition_columns: tuple[str, ...] = ()

    def plan(self, options: ReadOptions) -> ReadPlan:
        """Returns the plan for reading these files."""
        old_names = {new: old for old, new in options.rename_columns}
        kept = [field.with_name(old_names.get(field.name, field.name)) for field in self.kept_schema]
        return ReadPlan(options, self.text_columns, pa.schema(kept), self.partition_columns)


def inspect_input(options: ReadOptions, check_path: CheckPath | None = None) -> InputSummary:
    """Finds the input files and validates the options against them.

    Opens at most 20 files, spread over the input. An unreadable file is a warning here and a dead file later;
    an error if no file has readable columns. ``check_path``: see ``match_pattern``.

    Raises:
        UsageError: with the option or file that does not fit, and what to do.
    """
    check_encoding(options.encoding)
    files = match_patterns(options.patterns, options.input_format, check_path)
    _check_flags(files, options)
    if options.id_column is None:
        check_ids(files)
    found, warnings = _inspect_files(files, options)
    warnings += _large_files(files, options)
    for warning in warnings:
        _LOGGER.warning("%s", warning)
    has_columns = any(file.format != "txt" for file in files)
    text_columns = choose_text(found, options) if has_columns else ()
    check_output_names(options, text_columns)
    for columns in found:
        if columns.file.format in ("csv", "tsv"):
            check_fields(columns.file, options)
    check_no_text(text_columns, options)
    check_id(found, options)
    check_numbers(found, options)
    partitions = _partition_columns(files, found, options)
    schema = kept_schema(found, options, partitions)
    total_bytes = sum(file.size_bytes for file in files)
    return InputSummary(files, total_bytes, text_columns, schema, tuple(warnings), partitions)


def _partition_columns(
    files: Sequence[FileInfo], found: Sequence[FileColumns], options: ReadOptions
) -> tuple[str, ...]:
    """Returns the kept columns that no inspected file has, but the folders of all files.

    Raises:
        UsageError: only some files have such a folder.
    """
    named = partition_values(files[0].path)
    names = [
        name
        for name in options.keep_columns
        if name in named
        and not any(columns.find(name) is not None or name in columns.repeated for columns in found)
    ]
    for file in files if names else ():
        other = next((name for name in names if name not in partition_values(file.path)), None)
        if other is not None:
            raise UsageError(
                f"--keep_columns {other!r} is a folder {other}=… of {files[0].path}, but not of {file.path}. "
                "Read them in two runs."
            )
    return tuple(names)


def _check_flags(files: Sequence[FileInfo], options: ReadOptions) -> None:
    """Rejects flags that do not apply to these files."""
    first = {file.format: file.path for file in reversed(files)}
    formats = set(first)
    column_flags = {
        "--text_column": options.text_columns,
        "--text_pair_column": options.text_pair_columns,
        "--id_column": options.id_column,
        "--keep_columns": [
            name for name in options.keep_columns if name not in partition_values(files[0].path)
        ],
    }
    for flag, value in column_flags.items():
        if value and "txt" in formats:
            raise UsageError(
                f"{flag} does not apply to {first['txt']}: .txt has no columns. Leave out the flag or the "
                "file."
            )
    if options.numeric_columns and "txt" in formats:
        raise UsageError(
            f"The model takes numbers from the columns {', '.join(map(repr, options.numeric_columns))}, but "
            f"{first['txt']} has no columns. Put texts and numbers into .jsonl, .csv or .parquet."
        )
    if options.whole_files and formats != {"txt"}:
        other = first[min(formats - {"txt"})]
        raise UsageError(
            f"--whole_files applies only to .txt files, but the input also has {other}. Read it in another "
            "run."
        )
    if options.delimiter is not None and "csv" not in formats:
        raise UsageError(
            "--delimiter applies only to .csv files, but the input has none; in .tsv it is always a tab."
        )
    is_csv_flag = {
        "--column_names": bool(options.column_names),
        "--no_csv_quotes": not options.csv_quotes,
        "--comment_prefix": options.comment_prefix is not None,
    }
    if any(is_csv_flag.values()) and not formats & {"csv", "tsv"}:
        flag = next(flag for flag, is_given in is_csv_flag.items() if is_given)
        raise UsageError(f"{flag} applies only to .csv and .tsv files, but the input has none. Leave it out.")
    if options.encoding != "utf-8" and formats <= BINARY_FORMATS:
        raise UsageError(
            f"--encoding applies only to text files, but the input is {', '.join(sorted(formats))}, which is "
            "always UTF-8."
        )


def _inspect_files(files: Sequence[FileInfo], options: ReadOptions) -> tuple[list[FileColumns], list[str]]:
    found, warnings, hints = [], [], []
    for file in _spread(files):
        try:
            columns, hint = _file_columns(file, options)
        except DamagedFileError as error:
            warnings.append(f"{file.path} cannot be read and will count as a dead file: {error}")
        else:
            found += [] if columns is None else [columns]
            hints += [] if hint is None else [hint]
    if warnings and not found and any(file.format != "txt" for file in files):
        raise UsageError(
            f"Could not determine the columns: none of the inspected files could be read. {warnings[0]}"
        )
    return merge_json(found), warnings + hints


def _spread(files: Sequence[FileInfo]) -> list[FileInfo]:
    """Selects the first file of every format, and more spread over the input."""
    if len(files) <= MAX_INSPECTED_FILES:
        return list(files)
    first = {file.format: file for file in reversed(files)}
    step = len(files) / (MAX_INSPECTED_FILES - len(first))
    picked = {files[int(index * step)] for index in range(MAX_INSPECTED_FILES - len(first))}
    return sorted({*first.values(), *picked}, key=files.index)


def _file_columns(file: FileInfo, options: ReadOptions) -> tuple[FileColumns | None, str | None]:
    """Returns a file's columns, None if they are unknown or the format has none, and a warning or None."""
    if file.format in BINARY_FORMATS:
        if file.size_bytes < LARGEST_POINTER_BYTES:
            _check_pointer(_head(file), file)
        return READERS[file.format].columns(file, options), None
    head = _head(file)
    _check_pointer(head, file)
    _check_magic(head, file)
    hint = check_head(head, options.encoding, file.path)
    return READERS[file.format].columns(file, options), hint


def _check_magic(head: bytes, file: FileInfo) -> None:
    """Rejects files that are of another format than text, which their first bytes tell."""
    for magic, name, flag in _MAGIC:
        if head.startswith(magic):
            way_out = f"Read it with --input_format {flag}." if flag else f"Let its name end in .{name}."
            raise UsageError(f"{file.path} is read as {file.format}, but is {name}. {way_out}")


def _check_pointer(head: bytes, file: FileInfo) -> None:
    if head.startswith(b"version https://git-lfs"):
        raise UsageError(
            f"{file.path} is a pointer of Git LFS and not the file itself. Fetch the file with: git lfs pull"
        )


def _head(file: FileInfo) -> bytes:
    """Reads the first bytes of a file, or those before the first damage."""
    head = io.BytesIO()
    with closing(open_decompressed(file)) as stream:
        while head.tell() < HEAD_BYTES:
            try:
                block = stream.read1(HEAD_BYTES)
            except DamagedFileError:
                if not head.tell():
                    raise
                break
            if not block:
                break
            head.write(block)
    return head.getvalue()


def _large_files(files: Sequence[FileInfo], options: ReadOptions) -> list[str]:
    large = [file for file in files if file.size_bytes > LARGE_FILE_BYTES and is_one_split(file, options)]
    if not large:
        return []
    biggest = max(large, key=lambda file: file.size_bytes)
    warning = (
        "Files over 1 GB that are each read by a single worker, because CSV, compressed and whole files "
        f"cannot be split: {len(large):,} of {len(files):,}. The largest is {biggest.path} "
        f"({biggest.size_bytes / 1e9:.1f} GB). Split them, or use plain .jsonl or Parquet."
    )
    return [warning]

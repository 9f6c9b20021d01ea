"""Reads JSON: an array of objects, or objects one after another; their members are the columns.

A file whose first line is an object is read line by line, as JSON Lines: a broken line costs no other.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing

from beam_jobs.base.config import ReadOptions
from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.encoding import BOM_UTF8, line_encoding
from beam_jobs.pipeline.read.files.lines import iter_lines
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, open_lines
from beam_jobs.pipeline.read.formats.json_values import iter_values
from beam_jobs.pipeline.read.formats.jsonl import JsonRecord, record_columns, record_outcomes
from beam_jobs.pipeline.read.types import FileColumns, FileInfo, FileSplit, ReadPlan


def read_json(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads a file; records are numbered from 0.

    Raises:
        DamagedFileError: the file cannot be read further.
    """
    meter = Meter(on_bytes, split.file.size_bytes)
    with closing(open_lines(split.file, plan.options.encoding, meter)) as stream:
        yield from record_outcomes(enumerate(_values(stream, plan.options)), split.file, plan)


def json_columns(file: FileInfo, options: ReadOptions) -> FileColumns | None:
    """Infers the columns of a file's first records and their types; None if there are none.

    Raises:
        DamagedFileError: the file cannot be read at all.
        UsageError: most of its first records are not JSON objects.
    """
    with closing(open_lines(file, options.encoding)) as stream:
        return record_columns(_values(stream, options), file, options)


def _values(stream: io.BufferedReader, options: ReadOptions) -> Iterator[JsonRecord]:
    encoding, max_bytes = line_encoding(options.encoding), options.max_document_bytes
    if not _has_lines(stream.peek(), encoding):
        yield from iter_values(stream, encoding, max_bytes)
        return
    for position, line in iter_lines(stream, max_bytes):
        content = line
        if isinstance(content, bytes):
            content = content.removeprefix(BOM_UTF8) if position == 0 else content
            if not content or content.isspace():
                continue
        yield content


def _has_lines(head: bytes, encoding: str) -> bool:
    """Whether the first line that is not blank is one object, and others follow."""
    first, line_end, _ = head.removeprefix(BOM_UTF8).lstrip().partition(b"\n")
    try:
        return bool(line_end) and isinstance(json.loads(first.decode(encoding)), dict)
    except (ValueError, RecursionError):
        return False

"""Helpers of the tests of reading: bytes to a file, a file to what came out of it."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.inspect import InputSummary, inspect_input
from beam_jobs.pipeline.read.splits import SPLIT_BYTES, plan_splits, read_split
from beam_jobs.pipeline.read.types import FileInfo, ReadPlan, detect_format

Outcome = Document | DeadLetter | DeadFile
COMPRESS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def file_info(path: Path) -> FileInfo:
    """Describes a file by its name, without any check."""
    detected = detect_format(path.name)
    assert detected is not None
    return FileInfo(str(path), path.name, path.stat().st_size, *detected)


def read_unchecked(
    path: Path,
    content: bytes,
    *,
    split_bytes: int = SPLIT_BYTES,
    text_columns: Sequence[str] = ("text",),
    kept: pa.Schema | None = None,
    **options: Any,
) -> list[Outcome]:
    """Writes a file and reads it without the check before work, which refuses much that is hostile."""
    path.write_bytes(content)
    read = ReadOptions((str(path),), **options)
    plan = ReadPlan(read, tuple(text_columns), pa.schema([]) if kept is None else kept)
    spans = plan_splits([file_info(path)], read, split_bytes)
    return [outcome for span in spans for outcome in read_split(span, plan)]


def read_checked(*patterns: Path | str, **options: Any) -> list[Outcome]:
    """Reads all files of some patterns as a job does."""
    read = ReadOptions(tuple(map(str, patterns)), **options)
    summary = inspect_input(read)
    plan = summary.plan(read)
    return [outcome for span in plan_splits(summary.files, read) for outcome in read_split(span, plan)]


def texts(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the texts of the documents."""
    return [outcome.text for outcome in outcomes if isinstance(outcome, Document)]


def ids(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the ids of documents and dead letters."""
    return [outcome.doc_id for outcome in outcomes if not isinstance(outcome, DeadFile)]


def reasons(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the reasons of what is dead, and ``ok`` for documents."""
    return ["ok" if isinstance(outcome, Document) else outcome.reason for outcome in outcomes]


def csv_bytes(rows: Sequence[Sequence[str]], **how: Any) -> bytes:
    """Writes rows as CSV."""
    out = io.StringIO(newline="")
    csv.writer(out, **how).writerows(rows)
    return out.getvalue().encode()


def write(folder: Path, **files: Any) -> None:
    """Writes files; a list is JSON Lines, a table Parquet. Their names have ``_`` for the dot."""
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, list):
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def inspect(*patterns: Path | str, **options: Any) -> InputSummary:
    """Checks input as a job does."""
    return inspect_input(ReadOptions(tuple(map(str, patterns)), **options))


def refused(*patterns: Path | str, **options: Any) -> str:
    """Returns the message of a check that must fail."""
    with pytest.raises(UsageError) as caught:
        inspect(*patterns, **options)
    return str(caught.value)

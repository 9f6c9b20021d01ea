"""Reads ORC: rows in small batches, only the required columns.

A file is read by one worker, because ORC's reader does not say how many rows a stripe has, and ids are made
from row numbers. Its batches are cut from within a stripe, so memory does not depend on the size of stripes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, StoredFile
from beam_jobs.pipeline.read.formats.columnar import MAX_BATCH_ROWS, RowReader, wanted_top_level
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan


def read_orc(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads a file; rows are numbered from 0.

    Raises:
        DamagedFileError: the file is not ORC, lacks a required column, or is damaged.
    """
    meter, position = Meter(on_bytes, split.file.size_bytes), 0
    with _opened(split.file) as (stored, fragment):
        columns = _columns(split.file, fragment)
        reader, read_bytes = RowReader(columns, plan), 0
        for batch in _batches(fragment, wanted_top_level(columns, plan)):
            yield from reader.outcomes(batch, position)
            position += batch.num_rows
            meter.add(stored.num_read - read_bytes)
            read_bytes = stored.num_read
        meter.add(split.file.size_bytes)


def orc_columns(file: FileInfo) -> FileColumns:
    """Returns the top-level columns of a file.

    Raises:
        DamagedFileError: the file is not ORC.
    """
    with _opened(file) as (_, fragment):
        return _columns(file, fragment)


def _columns(file: FileInfo, fragment: ds.Fragment) -> FileColumns:
    schema = fragment.physical_schema
    return FileColumns.of(file, schema.names, schema.types)


def _batches(fragment: ds.Fragment, names: list[str]) -> Iterator[pa.RecordBatch]:
    # Names as expressions, because a name with a dot would be a path.
    scanner = fragment.scanner(
        columns={name: ds.field(name) for name in names},
        batch_size=MAX_BATCH_ROWS,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    batches: Iterator[pa.RecordBatch] = scanner.to_batches()
    return batches


class _CountedFile(StoredFile):
    """Counts the bytes read: ORC's reader seeks, so that positions say nothing of progress."""

    num_read = 0

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer; returns 0 at the end."""
        size = super().readinto(buffer)
        self.num_read += size
        return size


@contextmanager
def _opened(file: FileInfo) -> Iterator[tuple[_CountedFile, ds.Fragment]]:
    """Opens a file; errors of Arrow, also while reading, become a DamagedFileError."""
    with _CountedFile(file) as stored:
        try:
            yield stored, ds.OrcFileFormat().make_fragment(pa.PythonFile(stored, mode="r"))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if stored.failure is not None:
                raise stored.failure from error
            raise DamagedFileError(
                "damaged",
                f"Expected an ORC file, but it cannot be read ({error}). Copy or write the file again.",
            ) from error

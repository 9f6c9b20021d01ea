"""Splits files and reads splits, without Beam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.files.lines import is_splittable
from beam_jobs.pipeline.read.files.open import OnBytes
from beam_jobs.pipeline.read.formats.parquet import row_group_ranges
from beam_jobs.pipeline.read.formats.readers import READERS
from beam_jobs.pipeline.read.formats.text import read_whole_file
from beam_jobs.pipeline.read.types import DamagedFileError, FileInfo, FileSplit, ReadPlan

SPLIT_BYTES = 64 * 1024 * 1024


def plan_splits(
    files: Iterable[FileInfo], options: ReadOptions, split_bytes: int = SPLIT_BYTES
) -> Iterator[FileSplit]:
    """Cuts files into splits, in order.

    Plain .txt and .jsonl are cut into ranges of ``split_bytes``, Parquet into groups of row groups of about
    that size; other files are one split each. So is a file of no bytes, and a Parquet file that cannot be
    opened, so that reading it reports the error.
    """
    for file in files:
        if file.format == "parquet":
            yield from _parquet_splits(file, split_bytes)
        elif file.size_bytes and _can_be_cut(file, options):
            for start in range(0, file.size_bytes, split_bytes):
                yield FileSplit(file, start, min(start + split_bytes, file.size_bytes))
        else:
            yield FileSplit(file)


def is_one_split(file: FileInfo, options: ReadOptions) -> bool:
    """Whether a file is read by one worker, however large it is."""
    return file.format != "parquet" and not _can_be_cut(file, options)


def read_split(
    split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None
) -> Iterator[Document | DeadLetter | DeadFile]:
    """Reads a split in file order and in bounded memory.

    Args:
        split: the split to read.
        plan: how to read it.
        on_bytes: called with the number of stored bytes read since the last call; the splits of a file add
            up to its size.

    Yields:
        A document or dead letter per record; at the end a ``DeadFile`` if the file could not be read further.
    """
    is_whole = plan.options.whole_files and split.file.format == "txt"
    reader = read_whole_file if is_whole else READERS[split.file.format].read
    num_documents = 0
    try:
        with closing(reader(split, plan, on_bytes)) as outcomes:
            for outcome in outcomes:
                num_documents += 1
                yield outcome
    except DamagedFileError as error:
        yield DeadFile(split.file.path, error.reason, str(error), num_documents)


def read_first(
    files: Iterable[FileInfo], plan: ReadPlan, limit: int, on_bytes: OnBytes | None = None
) -> Iterator[Document | DeadLetter | DeadFile]:
    """Reads the first ``limit`` documents of all files in order, counting dead letters."""
    left = limit
    for split in plan_splits(files, plan.options):
        for outcome in read_split(split, plan, on_bytes):
            yield outcome
            left -= not isinstance(outcome, DeadFile)
            if not left:
                return


def _can_be_cut(file: FileInfo, options: ReadOptions) -> bool:
    has_lines = READERS[file.format].has_lines and not options.whole_files
    return has_lines and is_splittable(file, options.encoding)


def _parquet_splits(file: FileInfo, split_bytes: int) -> Iterator[FileSplit]:
    if file.size_bytes <= split_bytes:
        yield FileSplit(file)
        return
    try:
        ranges = row_group_ranges(file, split_bytes)
    except DamagedFileError:
        ranges = []
    if not ranges:
        yield FileSplit(file)
    for start, end in ranges:
        yield FileSplit(file, start, end)

"""Reads a sample spread over the input and estimates the total number of documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.formats.orc import orc_num_rows
from beam_jobs.pipeline.read.inspect import InputSummary
from beam_jobs.pipeline.read.splits import plan_splits, read_split
from beam_jobs.pipeline.read.types import FileInfo, FileSplit, ReadPlan
from beam_jobs.store.filesystem import open_file

# Number of positions in the input and bytes read at each: 10 MB in all. Files that cannot be split are read
# from the beginning.
_NUM_PLACES = 20
_PLACE_BYTES = 512_000
# FailureLimits on the text kept, per position and in all: bound memory for highly compressed files.
_PLACE_TEXT_BYTES = 3_000_000
_TEXT_BYTES = 60_000_000
# Documents read per row group, which has no limit in bytes.
_GROUP_DOCUMENTS = 2000
_COUNTED_FORMATS = ("parquet", "orc")


@dataclass
class InputSample:
    """A part of the input.

    ``documents`` are some of the ``num_records`` read, of which ``num_dead`` are dead letters. ``num_total``
    is the number of records in the whole input: exact if ``is_whole``, because all of it was read.
    """

    documents: list[Document] = field(default_factory=list)
    num_records: int = 0
    num_dead: int = 0
    num_total: int = 0
    is_whole: bool = False


def sample_input(summary: InputSummary, options: ReadOptions) -> InputSample:
    """Reads at positions of equal distance in bytes, or all of a small input.

    Args:
        summary: the inspected input.
        options: how to read; ``limit`` bounds the total.
    """
    plan, sample = summary.plan(options), InputSample()
    sample.is_whole = summary.total_bytes <= _NUM_PLACES * _PLACE_BYTES
    if sample.is_whole:
        for split in plan_splits(summary.files, options):
            _read(split, plan, sample, float("inf"))
        sample.num_total = sample.num_records
    else:
        sample.num_total = round(_read_places(summary, plan, sample))
    if options.limit is not None:
        sample.num_total = min(sample.num_total, options.limit)
    return sample


def _read_places(summary: InputSummary, plan: ReadPlan, sample: InputSample) -> float:
    """Reads the positions and scales up by bytes; Parquet and ORC files state their number of rows."""
    splits = list(_splits(summary.files, plan.options, summary.total_bytes))
    max_bytes = _NUM_PLACES * _PLACE_BYTES / max(len(splits), 1)
    seen = {"counted": [0.0, 0.0], "other": [0.0, 0.0]}  # records and their bytes
    counted: set[FileInfo] = set()
    for split in splits:
        records, num_bytes = _read(split, plan, sample, max_bytes)
        if split.file.format not in _COUNTED_FORMATS:
            seen["other"][0] += records
            seen["other"][1] += num_bytes
        elif split.file not in counted:
            counted.add(split.file)
            seen["counted"][0] += _num_rows(split.file)
            seen["counted"][1] += split.file.size_bytes
    in_counted = sum(file.size_bytes for file in summary.files if file.format in _COUNTED_FORMATS)
    total = {"counted": in_counted, "other": summary.total_bytes - in_counted}
    return sum(total[kind] * records / max(size, 1) for kind, (records, size) in seen.items())


def _num_rows(file: FileInfo) -> int:
    if file.format == "orc":
        return orc_num_rows(file)
    with open_file(file.path) as stream:
        return int(pq.ParquetFile(stream).metadata.num_rows)


def _splits(files: Sequence[FileInfo], options: ReadOptions, total_bytes: int) -> Iterator[FileSplit]:
    """Yields the split at each position, each split once."""
    wanted = [int((index + 0.5) * total_bytes / _NUM_PLACES) for index in range(_NUM_PLACES)]
    first = 0
    for file in files:
        here = [offset - first for offset in wanted if first <= offset < first + file.size_bytes]
        first += file.size_bytes
        if here:
            splits = list(plan_splits([file], options, _PLACE_BYTES))
            picked = {min(offset * len(splits) // file.size_bytes, len(splits) - 1) for offset in here}
            yield from (splits[index] for index in sorted(picked))


def _read(split: FileSplit, plan: ReadPlan, sample: InputSample, max_bytes: float) -> tuple[int, float]:
    """Reads a split up to ``max_bytes``; returns the number of records and their stored bytes."""
    meter, text_bytes, records = _Meter(), 0, 0
    max_text_bytes = _TEXT_BYTES if max_bytes == float("inf") else _PLACE_TEXT_BYTES
    for outcome in read_split(split, plan, meter.add):
        if isinstance(outcome, DeadFile):
            continue
        records += 1
        meter.records = records
        sample.num_dead += isinstance(outcome, DeadLetter)
        if isinstance(outcome, Document) and text_bytes < max_text_bytes:
            sample.documents.append(outcome)
            text_bytes += sum(map(len, outcome.texts))
        is_counted = split.file.format in _COUNTED_FORMATS and max_bytes != float("inf")
        if meter.used_bytes >= max_bytes or (is_counted and records >= _GROUP_DOCUMENTS):
            sample.num_records += records
            return meter.used_records, meter.used_bytes
    sample.num_records += records
    return records, split.file.size_bytes if split.end is None else split.end - split.start


class _Meter:
    """Relates records to bytes: when a block is read, all earlier blocks have been consumed."""

    def __init__(self) -> None:
        self.records = self.used_records = self.used_bytes = self._read_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Records that a block was read."""
        self.used_records, self.used_bytes = self.records, self._read_bytes
        self._read_bytes += num_bytes

"""The words of reading: a file, a split of it, the plan, and the error that gives up on a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from beam_jobs.base.config import ReadOptions

Format = Literal["txt", "jsonl", "csv", "tsv", "parquet"]
Compression = Literal["gz", "bz2", "zst"]

FORMATS: dict[str, Format] = {
    "txt": "txt",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
}
COMPRESSIONS: tuple[Compression, ...] = ("gz", "bz2", "zst")
SUPPORTED = ".txt, .jsonl (or .ndjson), .csv, .tsv, each also with .gz, .bz2 or .zst behind it, and .parquet"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One input file.

    ``relative`` is the path behind the fixed part of its pattern, from which document ids are made.
    ``size_bytes`` is the size as stored, so compressed where the file is.
    """

    path: str
    relative: str
    size_bytes: int
    format: Format
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class FileSplit:
    """A part of a file that one worker reads.

    ``start`` and ``end`` are bytes of a plain line file and row groups of a Parquet file; other files are
    read whole. A line belongs to the split that its first byte lies in. ``end`` None means the file's end.
    """

    file: FileInfo
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class ReadPlan:
    """All that a worker must know to read a split: the options, and what the check before work settled."""

    options: ReadOptions
    text_columns: tuple[str, ...]
    kept_schema: pa.Schema

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        names = (*self.text_columns, *filter(None, [self.options.id_column]), *self.carried_columns)
        return tuple(dict.fromkeys(names))

    @property
    def carried_columns(self) -> tuple[str, ...]:
        """The columns whose values documents take along: the kept ones, then the model's numbers."""
        return (*self.kept_schema.names, *self.options.numeric_columns)


class DamagedFileError(Exception):
    """A file cannot be read on; what came out of it before still counts.

    Args:
        reason: a stable word to count by.
        message: what was expected, what came and what to do; never any of the file's text.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def detect_format(path: str) -> tuple[Format, Compression | None] | None:
    """Tells format and compression from a file's name, or None where they are not supported.

    >>> detect_format("gs://b/part-0.JSONL.gz")
    ('jsonl', 'gz')
    >>> detect_format("data.parquet.gz") is None
    True
    """
    stem, _, extension = path.lower().rpartition("/")[2].rpartition(".")
    compression = next((known for known in COMPRESSIONS if known == extension), None)
    if compression is not None:
        extension = stem.rpartition(".")[2] if "." in stem else ""
    found = FORMATS.get(extension)
    if found is None or (found == "parquet" and compression is not None):
        return None
    return found, compression

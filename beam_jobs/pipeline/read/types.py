"""Shared types of reading: files, splits, the read plan, and the error of a damaged file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from beam_jobs.base.config import ReadOptions

Format = Literal["txt", "jsonl", "json", "csv", "tsv", "parquet", "avro", "orc"]
Compression = Literal["gz", "bz2", "zst"]

FORMATS: dict[str, Format] = {
    "txt": "txt",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
    "avro": "avro",
    "orc": "orc",
}
# The values of --input_format, which applies whatever a file's name is.
INPUT_FORMATS: dict[str, Format] = {
    "text": "txt",
    **{name: FORMATS[name] for name in ("jsonl", "json", "csv", "tsv", "parquet", "avro", "orc")},
}
# Formats that compress inside, state the types of their columns, and are always UTF-8.
BINARY_FORMATS: frozenset[Format] = frozenset(["parquet", "avro", "orc"])
JSON_FORMATS: frozenset[Format] = frozenset(["json", "jsonl"])
COMPRESSIONS: tuple[Compression, ...] = ("gz", "bz2", "zst")
SUPPORTED = (
    ".txt, .jsonl (or .ndjson), .json, .csv, .tsv, each also with .gz, .bz2 or .zst appended, .parquet, "
    ".avro and .orc"
)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One input file.

    ``relative`` is the path after the fixed part of its pattern; document ids begin with it. ``size_bytes``
    is the stored size, before any decompression.
    """

    path: str
    relative: str
    size_bytes: int
    format: Format
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class FileSplit:
    """A part of a file that one worker reads.

    ``start`` and ``end`` are byte offsets in plain line files and row groups in Parquet files; other files
    are read as a whole. A line belongs to the split that contains its first byte. ``end`` None means the end
    of the file.
    """

    file: FileInfo
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class ReadPlan:
    """What a worker needs to read a split: the options and the results of ``inspect_input``.

    ``text_columns`` are those of the text, then those of the second text where documents are pairs.
    ``kept_schema`` has the columns' names in the input. ``partition_columns`` are those of them that are
    taken from the folders' names.
    """

    options: ReadOptions
    text_columns: tuple[str, ...]
    kept_schema: pa.Schema
    partition_columns: tuple[str, ...] = ()

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """All columns to read, each once."""
        names = (*self.text_columns, *filter(None, [self.options.id_column]), *self.carried_columns)
        return tuple(dict.fromkeys(names))

    @property
    def kept_fields(self) -> list[pa.Field]:
        """The kept columns that are read from the files."""
        return [field for field in self.kept_schema if field.name not in self.partition_columns]

    @property
    def carried_columns(self) -> tuple[str, ...]:
        """The columns whose values are stored in documents: kept ones, then numeric model inputs."""
        return (*(field.name for field in self.kept_fields), *self.options.numeric_columns)


@dataclass(frozen=True)
class FileColumns:
    """The columns of an inspected file; ``repeated`` are names that more than one column has."""

    file: FileInfo
    types: dict[str, pa.DataType]
    repeated: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: FileInfo, names: Sequence[str], types: Sequence[pa.DataType]) -> FileColumns:
        """Sorts out the names that occur more than once."""
        numbers = Counter(names)
        unique = {name: kind for name, kind in zip(names, types, strict=True) if numbers[name] == 1}
        return cls(file, unique, tuple(name for name, number in numbers.items() if number > 1))

    def find(self, name: str) -> pa.DataType | None:
        """Returns the type of a column, or of a field inside one for a name such as ``a.b``."""
        if name in self.types:
            return self.types[name]
        first, *others = name.split(".")
        kind = self.types.get(first) if others else None
        for other in others:
            if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(other) < 0:
                return None
            kind = kind.field(other).type
        return kind


class DamagedFileError(Exception):
    """A file cannot be read further; documents read before still count.

    Args:
        reason: a stable identifier to count by.
        message: what was expected, what was found and what to do; never any text of the file.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def detect_format(path: str, input_format: str | None = None) -> tuple[Format, Compression | None] | None:
    """Derives format and compression from a file's name; None if they are not supported.

    Args:
        path: the path, of which the last name counts.
        input_format: a key of ``INPUT_FORMATS``, whatever the name is.

    >>> detect_format("gs://b/part-0.JSONL.gz"), detect_format("part-0.gz", "csv")
    (('jsonl', 'gz'), ('csv', 'gz'))
    >>> detect_format("data.parquet.gz") is None
    True
    """
    stem, _, extension = path.lower().rpartition("/")[2].rpartition(".")
    compression = next((known for known in COMPRESSIONS if known == extension), None)
    if compression is not None:
        extension = stem.rpartition(".")[2] if "." in stem else ""
    found = FORMATS.get(extension) if input_format is None else INPUT_FORMATS[input_format]
    if found is None or (found in BINARY_FORMATS and compression is not None):
        return None
    return found, compression

"""What the job needs of each input format; the one table to add a format to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from beam_jobs.base.config import ReadOptions
from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.open import OnBytes
from beam_jobs.pipeline.read.formats.avro import avro_columns, read_avro
from beam_jobs.pipeline.read.formats.csv import delimited_columns, read_delimited
from beam_jobs.pipeline.read.formats.json import json_columns, read_json
from beam_jobs.pipeline.read.formats.jsonl import jsonl_columns, read_jsonl
from beam_jobs.pipeline.read.formats.orc import orc_columns, read_orc
from beam_jobs.pipeline.read.formats.parquet import parquet_columns, read_parquet
from beam_jobs.pipeline.read.formats.text import read_text_lines
from beam_jobs.pipeline.read.types import FileColumns, FileInfo, FileSplit, Format, ReadPlan


@dataclass(frozen=True)
class FormatReader:
    """The functions of a format.

    ``read`` yields a document or dead letter per record of a split and raises ``DamagedFileError`` where it
    cannot go on; its memory is bounded however long a record is. ``columns`` returns the columns of a file,
    None if there are none or they are unknown. ``has_lines`` marks formats that can be read from the
    beginning of any line.
    """

    read: Callable[[FileSplit, ReadPlan, OnBytes | None], Outcomes]
    columns: Callable[[FileInfo, ReadOptions], FileColumns | None]
    has_lines: bool = False


READERS: dict[Format, FormatReader] = {
    "txt": FormatReader(read_text_lines, lambda _file, _options: None, has_lines=True),
    "jsonl": FormatReader(read_jsonl, jsonl_columns, has_lines=True),
    "json": FormatReader(read_json, json_columns),
    "csv": FormatReader(read_delimited, delimited_columns),
    "tsv": FormatReader(read_delimited, delimited_columns),
    "parquet": FormatReader(read_parquet, lambda file, _: parquet_columns(file)),
    "avro": FormatReader(read_avro, lambda file, _: avro_columns(file)),
    "orc": FormatReader(read_orc, lambda file, _: orc_columns(file)),
}

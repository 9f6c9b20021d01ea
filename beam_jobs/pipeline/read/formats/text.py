"""Reads plain text: one document per line, or one document per file.

An empty line is a blank document; text after the last line end is a document only if it is not empty. A byte
order mark at the beginning of the file is skipped.
"""

from __future__ import annotations

import io
from contextlib import closing

from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.pipeline.read.documents import Outcomes, RowBuilder
from beam_jobs.pipeline.read.files.encoding import BOM_UTF8, line_encoding
from beam_jobs.pipeline.read.files.lines import PIECE_BYTES, Measure, Oversized, split_lines
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, open_lines
from beam_jobs.pipeline.read.types import FileSplit, ReadPlan


def read_text_lines(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads the lines that begin in a split, one document per line.

    Raises:
        DamagedFileError: the file cannot be read further.
    """
    options, builder = plan.options, RowBuilder(split.file, plan)
    encoding = line_encoding(options.encoding)
    for position, line in split_lines(split, options.encoding, options.max_document_bytes, on_bytes):
        if position == 0 and encoding == "utf-8" and isinstance(line, bytes):
            line = line.removeprefix(BOM_UTF8)
        yield _outcome(builder, builder.position_id(position), line, encoding)


def read_whole_file(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads a file as one document, whose id is the file's relative path.

    Raises:
        DamagedFileError: the file cannot be read to its end.
    """
    options, builder = plan.options, RowBuilder(split.file, plan)
    encoding = line_encoding(options.encoding)
    with closing(open_lines(split.file, options.encoding, Meter(on_bytes, split.file.size_bytes))) as stream:
        content = _read_all(stream, options.max_document_bytes)
    if encoding == "utf-8" and isinstance(content, bytes):
        content = content.removeprefix(BOM_UTF8)
    yield _outcome(builder, split.file.relative, content, encoding)


def _read_all(stream: io.BufferedReader, max_bytes: int) -> bytes | Oversized:
    content = stream.read(max_bytes + 1)
    if len(content) <= max_bytes:
        return content
    measure = Measure()
    while content:
        measure.take(content)
        content = stream.read(PIECE_BYTES)
    return measure.result()


def _outcome(
    builder: RowBuilder, doc_id: str, content: bytes | Oversized, encoding: str
) -> Document | DeadLetter:
    if isinstance(content, Oversized):
        head = content.head.decode(encoding, "replace")
        return builder.oversized(doc_id, head, content.sha256, content.num_bytes)
    try:
        return builder.document(doc_id, content.decode(encoding))
    except UnicodeDecodeError as error:
        return builder.undecodable(doc_id, error, encoding)

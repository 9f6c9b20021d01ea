"""From files to spans, and from a span to what is in it: the whole of reading without Beam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.lines import is_splittable
from beam_jobs.pipeline.read.files.open import OnBytes
from beam_jobs.pipeline.read.formats.csv import read_delimited
from beam_jobs.pipeline.read.formats.jsonl import read_jsonl
from beam_jobs.pipeline.read.formats.parquet import read_parquet, row_group_ranges
from beam_jobs.pipeline.read.formats.text import read_text_lines, read_whole_file
from beam_jobs.pipeline.read.types import DamagedFileError, FileInfo, Format, ReadPlan, Span

SPAN_BYTES = 64 * 1024 * 1024

_Reader = Callable[[Span, ReadPlan, OnBytes | None], Outcomes]
_READERS: dict[Format, _Reader] = {
    "txt": read_text_lines,
    "jsonl": read_jsonl,
    "csv": read_delimited,
    "tsv": read_delimited,
    "parquet": read_parquet,
}


def plan_spans(
    files: Iterable[FileInfo], options: ReadOptions, span_bytes: int = SPAN_BYTES
) -> Iterator[Span]:
    """Cuts files into spans, in order.

    Plain .txt and .jsonl are cut into ranges of ``span_bytes``, Parquet into row groups of together about as
    much; other files are one span each. So is a Parquet file that cannot be opened, for
    reading to say why.
    """
    for file in files:
        if file.format == "parquet":
            yield from _parquet_spans(file, span_bytes)
        elif _can_be_cut(file, options):
            for start in range(0, file.size_bytes, span_bytes):
                yield Span(file, start, min(start + span_bytes, file.size_bytes))
        else:
            yield Span(file)


def is_one_span(file: FileInfo, options: ReadOptions) -> bool:
    """Whether a file is read by one worker, however large it is."""
    return file.format != "parquet" and not _can_be_cut(file, options)


def read_span(
    span: Span, plan: ReadPlan, on_bytes: OnBytes | None = None
) -> Iterator[Document | DeadLetter | DeadFile]:
    """Reads a span, in the order of the file and in bounded memory.

    Args:
        span: what to read.
        plan: how to read it.
        on_bytes: called now and then with the number of stored bytes read since; complete spans of a file add
            up to its size.

    Yields:
        What became of each record; last a ``DeadFile`` where the file could not be read on.
    """
    is_whole = plan.options.whole_files and span.file.format == "txt"
    reader = read_whole_file if is_whole else _READERS[span.file.format]
    num_documents = 0
    try:
        with closing(reader(span, plan, on_bytes)) as outcomes:
            for outcome in outcomes:
                num_documents += 1
                yield outcome
    except DamagedFileError as error:
        yield DeadFile(span.file.path, error.reason, str(error), num_documents)


def read_first(
    files: Iterable[FileInfo], plan: ReadPlan, limit: int, on_bytes: OnBytes | None = None
) -> Iterator[Document | DeadLetter | DeadFile]:
    """Reads the first ``limit`` documents of all files together, dead letters included, in order."""
    left = limit
    for span in plan_spans(files, plan.options):
        for outcome in read_span(span, plan, on_bytes):
            yield outcome
            left -= not isinstance(outcome, DeadFile)
            if not left:
                return


def _can_be_cut(file: FileInfo, options: ReadOptions) -> bool:
    is_lines = file.format == "jsonl" or (file.format == "txt" and not options.whole_files)
    return is_lines and is_splittable(file, options.encoding)


def _parquet_spans(file: FileInfo, span_bytes: int) -> Iterator[Span]:
    if file.size_bytes <= span_bytes:
        yield Span(file)
        return
    try:
        ranges = row_group_ranges(file, span_bytes)
    except DamagedFileError:
        ranges = []
    if not ranges:
        yield Span(file)
    for start, end in ranges:
        yield Span(file, start, end)

"""The ``ReadDocuments`` transform: files to splits to documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from beam_jobs.base import metrics
from beam_jobs.base.config import ReadOptions
from beam_jobs.base.progress import ProgressSink
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.files.patterns import match_pattern
from beam_jobs.pipeline.read.inspect import InputSummary, inspect_input
from beam_jobs.pipeline.read.splits import plan_splits, read_first, read_split
from beam_jobs.pipeline.read.types import FileInfo, FileSplit, ReadPlan

DOCUMENTS = "documents"
DEAD_LETTERS = "dead_letters"
DEAD_FILES = "dead_files"
# A job request may have 20 MB, and a file takes some 300 bytes of it.
MAX_LISTED_FILES = 20_000

_Source = FileInfo | str
_Outcome = Document | DeadLetter | DeadFile


class ReadResult(NamedTuple):
    """The outputs of ``ReadDocuments``."""

    documents: Any  # PCollection[Document]
    dead_letters: Any  # PCollection[DeadLetter]
    dead_files: Any  # PCollection[DeadFile]


class ReadDocuments(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Reads documents from files: ``pipeline | ReadDocuments(ReadOptions(("data/*.jsonl",)))``.

    Outputs documents, dead letters (records that are not documents) and dead files (at most one per split of
    an unreadable file). A split keeps the order of its file.

    Args:
        options: what to read and how.
        summary: result of ``inspect_input``; None inspects the input now.
        redistribute: distributes the splits over workers. The in-process runner would only hold them in
            memory. With ``limit``, one worker reads in order.
        progress: receives the stored bytes read, as ``metrics.BYTES_READ``.
        label: name of the step.

    Raises:
        UsageError: the input does not fit the options (only without ``summary``).
    """

    def __init__(
        self,
        options: ReadOptions,
        summary: InputSummary | None = None,
        redistribute: bool = False,
        progress: ProgressSink | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__(label)
        self.summary = inspect_input(options) if summary is None else summary
        self._options, self._redistribute, self._progress = options, redistribute, progress

    def expand(self, pbegin: Any) -> ReadResult:
        """Builds the steps."""
        plan = self.summary.plan(self._options)
        sources = (
            self.summary.files if len(self.summary.files) <= MAX_LISTED_FILES else self._options.patterns
        )
        if self._options.limit is not None:
            parts = pbegin | "AllFiles" >> beam.Create(
                [tuple(sources)]
            )  # PCollection[tuple[FileInfo | str, ...]]
            reader: Any = _ReadFirstDoFn(plan, self._options.limit, self._progress)
        else:
            files = pbegin | "Files" >> beam.Create(sources)  # PCollection[FileInfo | str]
            parts = files | "Splits" >> beam.FlatMap(_source_splits, self._options)  # PCollection[FileSplit]
            reader = _ReadSplitDoFn(plan, self._progress)
        if self._redistribute and self._options.limit is None:
            parts |= "SpreadSplits" >> beam.Reshuffle()  # PCollection[FileSplit]
        result = parts | "ReadSplits" >> beam.ParDo(reader).with_outputs(
            DEAD_LETTERS, DEAD_FILES, main=DOCUMENTS
        )  # documents: PCollection[Document]; dead_letters: PCollection[DeadLetter]; dead_files
        return ReadResult(result[DOCUMENTS], result[DEAD_LETTERS], result[DEAD_FILES])


def _source_splits(source: _Source, options: ReadOptions) -> Iterator[FileSplit]:
    """Cuts a file, or all files of a pattern, into splits."""
    return plan_splits(_source_files(source, options), options)


def _source_files(source: _Source, options: ReadOptions) -> list[FileInfo]:
    return match_pattern(source, options.input_format) if isinstance(source, str) else [source]


class _ReadingDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Counts what is read and tags each outcome."""

    def __init__(self, plan: ReadPlan, progress: ProgressSink | None) -> None:
        self._plan, self._progress = plan, progress
        self._num_bytes = beam.metrics.Metrics.counter(metrics.NAMESPACE, metrics.BYTES_READ)
        self._num_documents = beam.metrics.Metrics.counter(metrics.NAMESPACE, metrics.DOCUMENTS_READ)
        self._num_dead = beam.metrics.Metrics.counter(metrics.NAMESPACE, metrics.DOCUMENTS_DEAD)

    def _on_bytes(self, num_bytes: int) -> None:
        self._num_bytes.inc(num_bytes)
        if self._progress is not None:
            self._progress.add(metrics.BYTES_READ, num_bytes)

    def _on_dead(self) -> None:
        self._num_dead.inc(1)
        if self._progress is not None:
            self._progress.add(metrics.DOCUMENTS_DEAD, 1)

    def _tagged(self, outcomes: Iterable[_Outcome]) -> Iterator[Any]:
        num_documents = 0
        for outcome in outcomes:
            num_documents += 1
            if type(outcome) is Document:
                yield outcome
            elif type(outcome) is DeadLetter:
                self._on_dead()
                yield TaggedOutput(DEAD_LETTERS, outcome)
            else:
                num_documents -= 1
                yield TaggedOutput(DEAD_FILES, outcome)
        self._num_documents.inc(num_documents)


@beam.typehints.with_input_types(FileSplit)
@beam.typehints.with_output_types(Document, dead_letters=DeadLetter, dead_files=DeadFile)
class _ReadSplitDoFn(_ReadingDoFn):
    """Reads one split per element."""

    def process(self, split: FileSplit) -> Iterator[Any]:
        return self._tagged(read_split(split, self._plan, self._on_bytes))


@beam.typehints.with_output_types(Document, dead_letters=DeadLetter, dead_files=DeadFile)
class _ReadFirstDoFn(_ReadingDoFn):
    """Reads the first documents of all files, which are one element."""

    def __init__(self, plan: ReadPlan, limit: int, progress: ProgressSink | None) -> None:
        super().__init__(plan, progress)
        self._limit = limit

    def process(self, sources: tuple[_Source, ...]) -> Iterator[Any]:
        files = chain.from_iterable(_source_files(source, self._plan.options) for source in sources)
        return self._tagged(read_first(files, self._plan, self._limit, self._on_bytes))

"""Counts what a model will compute, from text lengths and planned batches, without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.base.unknown_tokens import MOSTLY
from beam_jobs.pipeline.checkpoint import BufferLimit
from beam_jobs.pipeline.read.inspect import InputSummary
from beam_jobs.pipeline.read.splits import plan_splits, read_split
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.timeline import count_lengths
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.batching import plan_batches
from model_bundle.inference.text_encoder import request_input
from model_bundle.runtime.inputs import fixed_length
from model_bundle.runtime.request import EncodeRequest
from model_bundle.text.unknown import unknown_tokens
from model_bundle.text.windows import WindowedTexts

# Seconds after which buffers have reached their largest size.
_LATER_SECONDS = 1e6


@dataclass
class LengthCounts:
    """Token counts of some documents.

    ``num_tokens`` are those that the model sees, ``num_padded_tokens`` include padding, ``num_long`` is the
    number of documents over the limit; for unknown tokens see ``RunCounts``. ``documents_by_tokens`` is a
    histogram of the lengths before truncation; its keys are the upper bounds of the length classes.
    """

    num_documents: int = 0
    num_blank: int = 0
    num_tokens: int = 0
    num_padded_tokens: int = 0
    num_long: int = 0
    num_lost_tokens: int = 0
    num_unknown_tokens: int = 0
    num_mostly_unknown: int = 0
    documents_by_tokens: dict[int, int] = field(default_factory=dict)


class Pace:
    """Simulates the buffer size of the encoding step over the course of a run, on a computed clock.

    Args:
        settings: the job's encoding settings.
        cells_per_second: padded tokens per second that the model computes.
        from_start: whether to simulate the first minutes of a run, where buffers are smaller.
    """

    def __init__(self, settings: EncodeSettings, cells_per_second: float, *, from_start: bool) -> None:
        self._now, self._rate = 0.0, cells_per_second
        self._limit = BufferLimit(settings.buffer_documents, settings.buffer_seconds, lambda: self._now)
        self._now = 0.0 if from_start else _LATER_SECONDS

    @property
    def documents(self) -> int:
        """Number of documents in the next buffer."""
        return self._limit.documents

    def computed(self, num_documents: int, num_cells: int) -> None:
        """Advances the clock by the time that a buffer takes."""
        seconds = num_cells / self._rate
        self._now += seconds
        self._limit.computed(num_documents, seconds)


class LengthCounter:
    """Counts documents as the encoding step would batch them.

    Args:
        bundle: a checked bundle.
        request: outputs, token limit and handling of long texts.
        max_batch_tokens: limit on padded tokens per batch.
        pace: how many documents are sorted by length together.
    """

    def __init__(
        self, bundle: ModelBundle, request: EncodeRequest, max_batch_tokens: int, pace: Pace
    ) -> None:
        self._input = request_input(bundle, request)
        self._limit = request.max_tokens
        self._budget = max_batch_tokens
        self._pace = pace
        self._fixed = fixed_length(bundle.manifest.inputs)
        self._equal = bundle.manifest.batch_dependent
        self._one_each = self._equal and bundle.manifest.tokenizer.kind == "text"

    def count(self, documents: Iterable[Document]) -> LengthCounts:
        """Counts documents, one buffer at a time, in bounded memory."""
        found, waiting = LengthCounts(), iter(documents)
        while buffer := list(islice(waiting, self._pace.documents)):
            texts = [document.texts for document in buffer if any(text.strip() for text in document.texts)]
            found.num_documents += len(texts)
            found.num_blank += len(buffer) - len(texts)
            if texts:
                self._add(texts, found)
        found.documents_by_tokens = dict(sorted(found.documents_by_tokens.items()))
        return found

    def _add(self, texts: Sequence[tuple[str, ...]], found: LengthCounts) -> None:
        # A lone surrogate is a dead letter in a job; here it must only not stop the count.
        sound = [tuple(text.encode("utf-8", "replace").decode() for text in own) for own in texts]
        prepared = self._input.prepare([own if len(own) > 1 else own[0] for own in sound])
        whole, lengths = np.asarray(prepared.num_tokens), np.asarray(prepared.lengths)
        found.num_tokens += int(lengths.sum())
        if self._limit is not None:
            found.num_long += int((whole > self._limit).sum())
            if not isinstance(prepared, WindowedTexts):
                found.num_lost_tokens += int((whole - lengths).clip(min=0).sum())
        unknown = unknown_tokens(prepared)
        if unknown is not None:
            found.num_unknown_tokens += int(unknown.num_fed.sum())
            found.num_mostly_unknown += int((unknown.fractions > MOSTLY).sum())
        cells = np.maximum(lengths, self._fixed)
        batches = plan_batches(cells, self._budget, equal_lengths=self._equal, one_each=self._one_each)
        num_cells = sum(int(cells[batch].max()) * len(batch) for batch in batches)
        found.num_padded_tokens += num_cells
        self._pace.computed(len(texts), num_cells)
        for bound, number in _classes(whole).items():
            found.documents_by_tokens[bound] = found.documents_by_tokens.get(bound, 0) + number


def _classes(lengths: np.ndarray) -> dict[int, int]:
    names = pa.array(np.arange(len(lengths)).astype(str))
    batch = pa.RecordBatch.from_arrays([names, pa.array(lengths, pa.int32())], names=["doc_id", "num_tokens"])
    return {int(name.partition("/")[2]): number for name, number in count_lengths(batch).items()}


@dataclass
class ReadCounts:
    """Counts of all records, of the dead ones among them, and of files that could not be read to the end."""

    num_records: int = 0
    num_dead: int = 0
    num_dead_files: int = 0


def all_documents(summary: InputSummary, options: ReadOptions, counts: ReadCounts) -> Iterator[Document]:
    """Yields every document of the input and adds to ``counts`` what was read."""
    plan = summary.plan(options)
    for split in plan_splits(summary.files, options):
        for outcome in read_split(split, plan):
            if isinstance(outcome, DeadFile):
                counts.num_dead_files += 1
                continue
            if options.limit is not None and counts.num_records >= options.limit:
                return
            counts.num_records += 1
            counts.num_dead += isinstance(outcome, DeadLetter)
            if isinstance(outcome, Document):
                yield outcome

"""Finds the earlier rows of documents by a join on ids, for remote runners."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from beam_jobs.base.records import Document, EarlierRows
from beam_jobs.pipeline.incremental.changes_by_join import files_of, is_trusted
from beam_jobs.pipeline.incremental.previous_documents import changed_ids, documents_of

if TYPE_CHECKING:
    from beam_jobs.pipeline.incremental.plan import ReusePlan

# How many runs ago an id had rows, and where; None where a run changed or removed it, which hides older ones.
_Entry = tuple[int, EarlierRows | None]


class WithEarlierRows(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Adds to documents where the earlier rows of their ids are, as ``PreviousDocuments.earlier`` does.

    Args:
        plan: names the earlier runs.
    """

    def __init__(self, plan: ReusePlan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, documents: Any) -> Any:
        """Builds the step."""
        entries = (
            documents.pipeline
            | "Files" >> beam.Create(files_of(self._plan.previous_files or ()))  # PCollection[tuple[str, …]]
            | "Spread" >> beam.Reshuffle()  # PCollection[tuple[str, int, bool]]
            | "Trusted" >> beam.Filter(is_trusted, self._plan.digests)  # PCollection[tuple[str, int, bool]]
            | "Read" >> beam.FlatMap(_entries_of)  # PCollection[tuple[str, _Entry]]
        )
        keyed = documents | "ById" >> beam.Map(_by_id)  # PCollection[tuple[str, Document]]
        return (
            (keyed, entries)
            | "DocumentsAndEntries" >> beam.Flatten()  # PCollection[tuple[str, Document | _Entry]]
            | "MeetById" >> beam.GroupByKey()  # PCollection[tuple[str, Iterable[Document | _Entry]]]
            | "AddPlace" >> beam.FlatMapTuple(with_earlier)
        )  # PCollection[Document]


def _entries_of(file: tuple[str, int, bool]) -> Iterator[tuple[str, _Entry]]:
    path, age, holds_rows = file
    if not holds_rows:
        yield from ((name, (age, None)) for name in changed_ids([path]))
        return
    for group, documents in documents_of(path):
        places = zip(documents.ids, documents.starts.tolist(), documents.counts.tolist(), strict=True)
        for name, start, number in places:
            yield name, (age, EarlierRows(path, group, start, number))


def _by_id(document: Document) -> tuple[str, Document]:
    return document.doc_id, document


def with_earlier(_: str, values: Iterable[Document | _Entry]) -> Iterator[Document]:
    """Yields the documents of an id with its newest rows, unless a run removed them since.

    Iterates twice instead of holding the values: one id may have many documents.
    """
    gone, found = math.inf, []
    for value in values:
        if not isinstance(value, Document):
            age, place = value
            found += [(age, place)] if place is not None else []
            gone = gone if place is not None else min(gone, age)
    best = min((entry for entry in found if entry[0] <= gone), default=None)
    for value in values:
        if isinstance(value, Document):
            yield value if best is None else replace(value, earlier=best[1])

"""Finds added, changed and removed documents by a join on ids, for remote runners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs.base.records import Document, UnchangedDocuments
from beam_jobs.pipeline.incremental.changes_by_index import ADDED, CHANGED, CHANGES_SCHEMA, REMOVED
from beam_jobs.pipeline.incremental.digests import KnownDigests
from beam_jobs.pipeline.incremental.previous_documents import PreviousFiles, changed_ids, documents_of
from beam_jobs.pipeline.incremental.reuse_by_index import text_digest
from beam_jobs.pipeline.rows.copied import document_rows

if TYPE_CHECKING:
    from beam_jobs.pipeline.incremental.plan import ReusePlan

_UNCHANGED = "unchanged"


class _Row(NamedTuple):
    """An earlier row of an id: how many runs ago, and the digest of its text."""

    age: int
    text_digest: bytes


class _Gone(NamedTuple):
    """A run ``age`` runs ago changed or removed an id: older rows do not count."""

    age: int


class _New(NamedTuple):
    """A new row of an id."""

    text_digest: bytes


_Entry = _Row | _Gone | _New


class RemainingDocuments(NamedTuple):
    """The outputs of ``DropUnchanged``."""

    documents: Any  # PCollection[Document]
    unchanged: Any  # PCollection[UnchangedDocuments]
    unchanged_pairs: Any  # PCollection[tuple[str, bytes]]


class DropUnchanged(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Drops documents whose id has the same texts as before.

    Args:
        plan: names the earlier runs.
    """

    def __init__(self, plan: ReusePlan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, documents: Any) -> RemainingDocuments:
        """Builds the step."""
        keyed = documents | "ById" >> beam.Map(_by_id)  # PCollection[tuple[str, Document]]
        previous = documents.pipeline | "Previous" >> _ReadPrevious(
            self._plan
        )  # PCollection[tuple[str, _Entry]]
        split = (
            (keyed, previous)
            | "DocumentsAndPrevious" >> beam.Flatten()  # PCollection[tuple[str, Document | _Entry]]
            | "MeetById" >> beam.GroupByKey()  # PCollection[tuple[str, Iterable[Document | _Entry]]]
            | "Choose" >> beam.FlatMapTuple(_choose).with_outputs(_UNCHANGED, main="documents")
        )  # documents: PCollection[Document]; unchanged: PCollection[tuple[str, bytes]]
        unchanged = (
            split[_UNCHANGED]
            | "Count" >> beam.combiners.Count.Globally()  # PCollection[int]
            | "AsCount" >> beam.Map(UnchangedDocuments)  # PCollection[UnchangedDocuments]
        )
        return RemainingDocuments(split.documents, unchanged, split[_UNCHANGED])


class CompareRows(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Compares new rows with those of earlier runs; returns record batches of ``CHANGES_SCHEMA``.

    Does the same as ``FindChanges`` for workers without a shared disk. Takes a tuple of collections of rows.

    Args:
        plan: names the earlier runs.
        unchanged_pairs: ids and text digests of the dropped documents.
    """

    def __init__(self, plan: ReusePlan, unchanged_pairs: Any = None) -> None:
        super().__init__()
        self._plan, self._unchanged_pairs = plan, unchanged_pairs

    def expand(self, rows: Any) -> Any:
        """Builds the step."""
        parts = [
            rows[0].pipeline | "Previous" >> _ReadPrevious(self._plan)
        ]  # PCollection[tuple[str, _Entry]]
        for number, part in enumerate(rows):
            parts.append(part | f"Pairs{number}" >> beam.FlatMap(_pairs_of))  # PCollection[tuple[str, _New]]
        if self._unchanged_pairs is not None:
            parts.append(self._unchanged_pairs | "AsNew" >> beam.MapTuple(_as_new))  # […[str, _New]]
        return (
            parts
            | "AllPairs" >> beam.Flatten()  # PCollection[tuple[str, _Entry]]
            | "MeetById" >> beam.GroupByKey()  # PCollection[tuple[str, Iterable[_Entry]]]
            | "Changes" >> beam.FlatMapTuple(_change_of)  # PCollection[tuple[str, str]]
            | "Batch" >> beam.BatchElements(min_batch_size=1000, max_batch_size=10_000)
            | "ToArrow" >> beam.Map(_to_arrow)  # PCollection[pa.RecordBatch]
        )


class _ReadPrevious(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Reads the entries of each id from earlier runs."""

    def __init__(self, plan: ReusePlan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, pipeline: Any) -> Any:
        return (
            pipeline
            | "Files"
            >> beam.Create(files_of(self._plan.previous_files or ()))  # PCollection[tuple[str, int, bool]]
            | "Spread" >> beam.Reshuffle()  # PCollection[tuple[str, int, bool]]
            | "Trusted" >> beam.Filter(is_trusted, self._plan.digests)  # PCollection[tuple[str, int, bool]]
            | "Read" >> beam.FlatMap(_entries_of, self._plan.same_settings)  # PCollection[tuple[str, _Entry]]
        )


def files_of(runs: Sequence[PreviousFiles]) -> list[tuple[str, int, bool]]:
    """Returns paths with their age in runs, and whether they hold rows."""
    found = [(path, age, True) for age, run in enumerate(runs) for path in run.row_files]
    return found + [(path, age, False) for age, run in enumerate(runs) for path in run.change_files]


def is_trusted(file: tuple[str, int, bool], digests: KnownDigests) -> bool:
    """Whether a file of ``files_of`` may be read, see ``KnownDigests.check``."""
    return digests.check(file[0])


def _entries_of(file: tuple[str, int, bool], same_settings: bool) -> Iterator[tuple[str, _Entry]]:
    path, age, holds_rows = file
    if not holds_rows:
        for name in changed_ids([path]):
            yield name, _Gone(age)
        return
    for _, documents in documents_of(path):
        for name, digest in zip(documents.ids, documents.text_digests, strict=True):
            yield name, _Row(age, digest.tobytes() if same_settings else b"")


def _by_id(document: Document) -> tuple[str, Document]:
    return document.doc_id, document


def _as_new(name: str, digest: bytes) -> tuple[str, _Entry]:
    return name, _New(digest)


def _valid_digests(entries: Iterable[Any]) -> set[bytes]:
    """Returns the digests of the texts that an id had before."""
    entries = [entry for entry in entries if isinstance(entry, _Row | _Gone)]
    newest = min((entry.age for entry in entries if isinstance(entry, _Gone)), default=None)
    rows = [entry for entry in entries if isinstance(entry, _Row)]
    return {row.text_digest for row in rows if newest is None or row.age <= newest}


def _choose(name: str, entries: Iterable[Any]) -> Iterator[Any]:
    documents = [(entry, text_digest(entry)) for entry in entries if isinstance(entry, Document)]
    same = {digest for _, digest in documents} == _valid_digests(entries)
    for document, digest in documents:
        yield TaggedOutput(_UNCHANGED, (name, digest)) if same else document


def _pairs_of(rows: pa.RecordBatch) -> Iterator[tuple[str, _Entry]]:
    starts = pa.array(document_rows(rows)[0])
    ids, digests = (rows.column(name).take(starts).to_pylist() for name in ("doc_id", "text_sha256"))
    for name, digest in zip(ids, digests, strict=True):
        yield name, _New(bytes.fromhex(digest))


def _change_of(name: str, entries: Iterable[_Entry]) -> Iterator[tuple[str, str]]:
    before = _valid_digests(entries)
    after = {entry.text_digest for entry in entries if isinstance(entry, _New)}
    if before == after:
        return
    yield name, ADDED if not before else CHANGED if after else REMOVED


def _to_arrow(changes: Sequence[tuple[str, str]]) -> pa.RecordBatch:
    columns = [pa.array([change[at] for change in changes], pa.string()) for at in (0, 1)]
    return pa.RecordBatch.from_arrays(columns, schema=CHANGES_SCHEMA)

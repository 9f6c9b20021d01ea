"""Finds windows of changed documents in the earlier run, by the digest of what the model gets of them.

A window is looked for among the earlier ones of the same document: so only documents are indexed, and one row
group is read for each that changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import Document, EarlierRows
from beam_jobs.errors import JobError
from beam_jobs.pipeline.incremental.previous_rows import PreviousRows
from beam_jobs.pipeline.rows.schema import WINDOW_CHANGES_SCHEMA, WINDOW_COLUMNS, WINDOW_DIGEST
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store.batches import matrix
from model_bundle.inference.results import WindowSpans
from model_bundle.text.windows import WindowedTexts

ADDED, MOVED, REMOVED = "added", "moved", "removed"


class EarlierWindows:
    """Reads windows of an earlier run.

    Args:
        settings: of the encoding step, those of the earlier run.
        paths: files that documents may have their earlier rows in.
    """

    def __init__(self, settings: EncodeSettings, paths: Sequence[str]) -> None:
        self._vectors = dict(zip(settings.request.outputs, settings.vector_columns, strict=True))
        self._dims = dict(zip(settings.request.outputs, settings.dims, strict=True))
        self._files = {path: number for number, path in enumerate(paths)}
        columns = ("doc_id", *WINDOW_COLUMNS, WINDOW_DIGEST, *settings.vector_columns)
        self._rows = PreviousRows(paths, columns)

    def find(
        self, documents: Sequence[Document], prepared: WindowedTexts
    ) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Finds the vectors of windows, as ``TextEncoder.encode_each`` takes them.

        Args:
            documents: of a buffer.
            prepared: the windows of their texts.

        Raises:
            JobError: the earlier file changed since it was indexed.
        """
        found: list[np.ndarray] = []
        vectors: dict[str, list[np.ndarray]] = {
            name: [np.zeros((0, dim), np.float32)] for name, dim in self._dims.items()
        }
        for number, old in self._changed(documents):
            first, stop = prepared.starts[number : number + 2].tolist()
            before, after = old.column(WINDOW_DIGEST).to_pylist(), prepared.digests[first:stop]
            anywhere = {digest: at for at, digest in enumerate(before)}
            same = [
                anywhere.get(digest) if at is None else at
                for at, digest in zip(same_windows(before, after), after, strict=True)
            ]
            earlier = [at for at in same if at is not None]
            found.append(first + np.flatnonzero([at is not None for at in same]))
            for name, dim in self._dims.items():
                vectors[name].append(
                    matrix(old.column(self._vectors[name]).take(pa.array(earlier, pa.int64())), dim)
                )
        windows = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        return windows, {name: np.concatenate(parts) for name, parts in vectors.items()}

    def changes(
        self, documents: Sequence[Document], windows: WindowSpans, bounds: np.ndarray
    ) -> Iterator[pa.RecordBatch]:
        """Yields the changes of windows, of each document whose text changed.

        Args:
            documents: those of a buffer that got rows.
            windows: of all of them.
            bounds: int64[documents + 1], the first window of each.
        """
        for number, old in self._changed(documents):
            own = slice(*bounds[number : number + 2].tolist())
            before = list(zip(*(old.column(name).to_pylist() for name in WINDOW_COLUMNS), strict=True))
            after = list(zip(windows.index[own], windows.start[own], windows.end[own], strict=True))
            same = same_windows(old.column(WINDOW_DIGEST).to_pylist(), windows.digests[own])
            found: list[tuple[str, int | None, int | None]] = []
            for place, at in zip(after, same, strict=True):
                if at is None:
                    found.append((ADDED, int(place[0]), None))
                elif before[at] != place:
                    found.append((MOVED, int(place[0]), before[at][0]))
            found += [(REMOVED, None, before[at][0]) for at in sorted({*range(len(before))} - {*same})]
            if found:
                doc_id = [documents[number].doc_id] * len(found)
                columns = [doc_id, *map(list, zip(*found, strict=True))]
                arrays = [
                    pa.array(c, field.type) for c, field in zip(columns, WINDOW_CHANGES_SCHEMA, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=WINDOW_CHANGES_SCHEMA)

    def _changed(self, documents: Sequence[Document]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields position and earlier rows of the documents that have some, in the order of row groups."""
        places = {
            at: document.earlier for at, document in enumerate(documents) if document.earlier is not None
        }
        for at, earlier in sorted(places.items(), key=lambda item: item[1]):
            yield at, self._read(documents[at].doc_id, earlier)

    def _read(self, doc_id: str, earlier: EarlierRows) -> pa.RecordBatch:
        rows = self._rows.group(self._files[earlier.path], earlier.group)
        rows = rows.slice(earlier.start, earlier.num_rows)
        index = rows.column("window_index").to_pylist()
        if index != list(range(earlier.num_rows)) or set(rows.column("doc_id").to_pylist()) != {doc_id}:
            raise JobError(
                f"{earlier.path}, a file of an earlier run, changed while this job was running; start it "
                "again, with another --previous or without it."
            )
        return rows


def same_windows(before: Sequence[str], after: Sequence[str]) -> list[int | None]:
    """Returns for each window the earlier one that it is: the one at its index, else the first that is left.

    >>> same_windows(["a", "b", "a"], ["x", "b", "a", "a", "a"])
    [None, 1, 2, 0, None]

    Args:
        before: digests of the earlier windows of a document.
        after: those of its windows now.
    """
    stay = {at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one == other}
    left: dict[str, list[int]] = {}
    for at in range(len(before) - 1, -1, -1):
        if at not in stay:
            left.setdefault(before[at], []).append(at)
    found: list[int | None] = []
    for at, digest in enumerate(after):
        rest = left.get(digest)
        found.append(at if at in stay else rest.pop() if rest else None)
    return found

"""Qdrant: a collection of points with the other columns as payload, on a server or in a local folder."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from beam_jobs.errors import JobError, UsageError
from beam_jobs.store.batches import matrix
from beam_jobs.sync.mark import MARKS, Mark, check_columns
from beam_jobs.sync.store import Layout, RowKey
from beam_jobs.sync.stores.folder_lock import locked

_DISTANCES = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclidean": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
# Numbers in one request: 10 MB of JSON; a server takes 32 MB.
_MOST_NUMBERS = 500_000
_MOST_IDS = 1_000
_TIMEOUT_SECONDS = 120
_ERRORS = (ApiException, OSError, ValueError, RuntimeError)


class QdrantStore:
    """A collection of Qdrant, see ``Store``. Deleting and adding are two requests.

    Args:
        place: a folder, or ``http://HOST:PORT`` or ``https://KEY@HOST:PORT`` of a server.
        table: name of the collection.
        distance: ``cosine``, for which Qdrant normalises vectors, ``dot``, ``euclidean`` or ``manhattan``.
        writes: whether to lock the folder; a server has no locks.

    Raises:
        UsageError: no connection, no rights, another sync has it open, or the collection is not a sync's.
    """

    def __init__(self, place: str, table: str, distance: str, *, writes: bool) -> None:
        self._name, self._distance = table, distance
        self._id = str(uuid.uuid5(uuid.NAMESPACE_URL, table))
        self._lock: int | None = None
        address = urlsplit(place)
        self._is_local = address.scheme not in ("http", "https")
        self.where = f"the collection {table} in {place if self._is_local else address.hostname}"
        self.is_exact = distance != "cosine"
        if self._is_local and not writes and not Path(place).is_dir():
            raise UsageError(f"There is no folder {place}.")
        if self._is_local:
            self._lock = locked(Path(place), self.where)
        try:
            with self._as_usage():
                self._client = _client(place, self._is_local)
                self._has_table = self._client.collection_exists(table)
                self._text = self._read_text()
            if self._has_table and self._text is None:
                raise UsageError(
                    f"{self.where} exists, and no sync made it. Name another --table. Nothing was written."
                )
        except BaseException:
            self.close()
            raise

    def _read_text(self) -> str | None:
        if not self._client.collection_exists(MARKS):
            return None
        found = self._client.retrieve(MARKS, [self._id])
        return str((found[0].payload or {})["mark"]) if found else None

    def read_mark(self) -> Mark | None:
        """Returns the mark; None if there is no collection yet."""
        if not self._has_table or self._text is None:
            return None
        mark = Mark.from_json(self._text, self.where)
        params = self._client.get_collection(self._name).config.params.vectors
        others = [name for name, _ in mark.columns if name not in mark.dimensions]
        check_columns(mark, [*others, *(params if isinstance(params, dict) else {})], self.where)
        return mark

    def begin(self, mark: Mark, layout: Layout) -> None:
        """Writes a mark, then creates the collection: an empty one without a mark would be nobody's."""
        self._layout = layout
        with self._as_usage():
            if not self._client.collection_exists(MARKS):
                self._client.create_collection(MARKS, vectors_config={})
            self._put_mark(mark)
            if self._has_table:
                return
            vectors = {
                name: models.VectorParams(size=dim, distance=_DISTANCES[self._distance])
                for name, dim in layout.dimensions.items()
            }
            self._client.create_collection(self._name, vectors_config=vectors)
            if not self._is_local:  # a folder has no indexes
                self._client.create_payload_index(
                    self._name, "doc_id", field_schema=models.PayloadSchemaType.KEYWORD
                )

    def write(self, gone: Sequence[str], rows: pa.RecordBatch | None, mark: Mark | None = None) -> None:
        """Deletes, adds and writes the mark, in requests that are answered when they are carried out."""
        try:
            for start in range(0, len(gone), _MOST_IDS):
                selector = models.FilterSelector(filter=_among(gone[start : start + _MOST_IDS]))
                self._client.delete(self._name, points_selector=selector, wait=True)
            if rows is not None:
                size = max(1, _MOST_NUMBERS // sum(self._layout.dimensions.values()))
                for start in range(0, rows.num_rows, size):
                    points = _points(rows.slice(start, size), self._layout)
                    self._client.upsert(self._name, points, wait=True)
            if mark is not None:
                self._put_mark(mark)
        except _ERRORS as error:
            raise JobError(
                f"Writing to {self.where} failed: {error}. The same command starts again where needed."
            ) from error

    def _put_mark(self, mark: Mark) -> None:
        payload = {"name": self._name, "mark": mark.model_dump_json()}
        point = models.PointStruct(id=self._id, vector={}, payload=payload)
        self._client.upsert(MARKS, [point], wait=True)

    def doc_ids(self) -> Iterator[list[str]]:
        """Yields the ids of all points, in batches."""
        for points in self._scroll(None, ["doc_id"], vectors=False):
            yield [(point.payload or {})["doc_id"] for point in points]

    def num_rows(self) -> int:
        """Returns the number of points."""
        return int(self._client.count(self._name, exact=True).count)

    def vectors_of(self, doc_ids: Sequence[str], layout: Layout) -> dict[RowKey, list[np.ndarray]]:
        """Returns the vectors of the points of some documents."""
        found: dict[RowKey, list[np.ndarray]] = {}
        for points in self._scroll(_among(doc_ids), layout.key, vectors=True):
            for point in points:
                payload: Any = point.payload
                vectors: Any = point.vector
                place = payload[layout.place] if layout.place else 0
                found[payload["doc_id"], place] = [
                    np.asarray(vectors[name], np.float32) for name in layout.dimensions
                ]
        return found

    def _scroll(self, chosen: models.Filter | None, keys: list[str], *, vectors: bool) -> Iterator[list[Any]]:
        offset: Any = None
        while True:
            points, offset = self._client.scroll(
                self._name, chosen, limit=_MOST_IDS, offset=offset, with_payload=keys, with_vectors=vectors
            )
            yield points
            if offset is None:
                return

    def close(self) -> None:
        """Ends the connection, and gives up the lock."""
        if hasattr(self, "_client"):
            self._client.close()
        if self._lock is not None:
            os.close(self._lock)

    @contextmanager
    def _as_usage(self) -> Iterator[None]:
        """Turns errors before the first batch into one message."""
        try:
            yield
        except _ERRORS as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{self.where} cannot be used: {said}. Nothing was written.") from error


def _client(place: str, is_local: bool) -> QdrantClient:
    if is_local:
        return QdrantClient(path=place)
    address = urlsplit(place)
    url = f"{address.scheme}://{address.hostname}:{address.port or 6333}{address.path}"
    key = address.username or None
    return QdrantClient(url=url, api_key=key, timeout=_TIMEOUT_SECONDS, check_compatibility=False)


def _among(doc_ids: Sequence[str]) -> models.Filter:
    match = models.MatchAny(any=list(doc_ids))
    return models.Filter(must=[models.FieldCondition(key="doc_id", match=match)])


def _points(rows: pa.RecordBatch, layout: Layout) -> list[models.PointStruct]:
    """Returns points; their ids follow from document and place, so that a repeated batch adds none."""
    vectors = {name: matrix(rows.column(name), dim).tolist() for name, dim in layout.dimensions.items()}
    others = rows.drop_columns(list(layout.dimensions)).to_pylist()
    return [
        models.PointStruct(
            id=str(
                uuid.uuid5(uuid.NAMESPACE_URL, f"{row[layout.place] if layout.place else 0}/{row['doc_id']}")
            ),
            vector={name: vectors[name][at] for name in vectors},
            payload={name: _plain(value) for name, value in row.items()},
        )
        for at, row in enumerate(others)
    ]


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it: times in ISO 8601, bytes in base64, other types as text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)

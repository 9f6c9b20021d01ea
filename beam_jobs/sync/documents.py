"""The documents of a run: their digests, their rows together, and which of them differ from another run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.errors import UsageError
from beam_jobs.store.batches import read_batches
from beam_jobs.store.dataset import vector_columns
from beam_jobs.store.finished_run import FinishedRun

_ID_BYTES, _ROW_BYTES = 16, 8


def id_digests(ids: Iterable[str]) -> np.ndarray:
    """Returns a digest of each id, bytes16[ids]."""
    made = b"".join(hashlib.blake2b(name.encode(), digest_size=_ID_BYTES).digest() for name in ids)
    return np.frombuffer(made, dtype=f"S{_ID_BYTES}")


class DocumentIds:
    """The documents of a run, in 16 bytes each.

    Args:
        run: the run, with those before it.
        place: the column of the row's number in its document; None where rows are documents.

    Raises:
        UsageError: two documents have the same id.
    """

    def __init__(self, run: FinishedRun, place: str | None) -> None:
        self.num_rows = 0
        found: list[np.ndarray] = [id_digests([])]
        for batch in read_batches(run, ["doc_id", *([place] if place else [])]):
            self.num_rows += batch.rows.num_rows
            ids = batch.rows.column("doc_id")
            starts = ids.filter(pc.equal(batch.rows.column(place), 0)) if place else ids
            found.append(id_digests(starts.to_pylist()))
        digests = np.sort(np.concatenate(found))
        self._digests = digests
        repeated = np.flatnonzero(digests[1:] == digests[:-1])
        if len(repeated):
            raise UsageError(
                f"{_name_of(run, digests[repeated[0]])!r} is the id of several documents of {run.folder}. In "
                "a store, a document is replaced by its id, so ids must be unique: run the job again with "
                "--id_column. Nothing was written."
            )

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self._digests)

    def has(self, ids: Sequence[str]) -> np.ndarray:
        """Returns bool[ids]: whether the run has a document of each id."""
        return _contains(self._digests, id_digests(ids))

    def sample(self, size: int) -> np.ndarray:
        """Returns the digests of about ``size`` documents, always the same ones of the same documents."""
        return self._digests[:size]


def _name_of(run: FinishedRun, digest: bytes) -> str:
    for batch in read_batches(run, ["doc_id"]):
        ids = batch.rows.column("doc_id").to_pylist()
        at = np.flatnonzero(id_digests(ids) == digest)
        if len(at):
            return str(ids[int(at[0])])
    return ""


def _contains(digests: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(digests):
        return np.zeros(len(wanted), dtype=bool)
    at = np.minimum(np.searchsorted(digests, wanted), len(digests) - 1)
    return np.asarray(digests[at] == wanted)


def whole_documents(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the same rows in batches that end with a document; its rows follow one another in a run."""
    rest: pa.RecordBatch | None = None
    for batch in batches:
        rows = pa.concat_batches([rest, batch]) if rest is not None else batch
        ids = rows.column("doc_id")
        last = int(pc.sum(pc.not_equal(ids, ids[-1])).as_py() or 0)  # its rows are together, at the end
        if last:
            yield rows.slice(0, last)
        rest = rows.slice(last)
    if rest is not None:
        yield rest


def rows_of(run: FinishedRun, digests: np.ndarray | None = None) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a run, or of the documents with these sorted digests."""
    for batch in read_batches(run):
        if digests is None:
            yield batch.rows
            continue
        mask = _contains(digests, id_digests(batch.rows.column("doc_id").to_pylist()))
        if mask.any():
            yield batch.rows.filter(pa.array(mask))


def missing_documents(run: FinishedRun, digests: np.ndarray, there: DocumentIds) -> Iterator[str]:
    """Yields the ids of a run's documents with these sorted digests that another run does not have."""
    for batch in read_batches(run, ["doc_id"]):
        ids = batch.rows.column("doc_id").unique().to_pylist()
        mask = _contains(digests, id_digests(ids)) & ~there.has(ids)
        yield from (ids[int(at)] for at in np.flatnonzero(mask))


def differing_documents(one: FinishedRun, other: FinishedRun) -> np.ndarray:
    """Compares all columns of two runs, in 24 bytes per row and run.

    Returns:
        bytes16[documents], sorted: the digests of ids whose rows differ, or that only one of the runs has.

    Raises:
        duckdb.Error: a column has a type that DuckDB does not know.
    """
    differing = np.setxor1d(_row_digests(one), _row_digests(other))
    ids = differing.view(np.uint8).reshape(-1, _ID_BYTES + _ROW_BYTES)[:, :_ID_BYTES]
    return np.unique(np.ascontiguousarray(ids).reshape(-1).view(f"S{_ID_BYTES}"))


def _row_digests(run: FinishedRun) -> np.ndarray:
    """Returns bytes24[rows]: the digest of the id, and a hash of all columns."""
    connection = duckdb.connect(config={"enable_external_access": "false"})
    found = [np.empty(0, f"S{_ID_BYTES + _ROW_BYTES}")]
    try:
        for batch in read_batches(run):
            digests = np.empty((batch.rows.num_rows, _ID_BYTES + _ROW_BYTES), np.uint8)
            ids = id_digests(batch.rows.column("doc_id").to_pylist())
            digests[:, :_ID_BYTES] = ids.view(np.uint8).reshape(-1, _ID_BYTES)
            columns = map(duckdb.ColumnExpression, batch.rows.schema.names)
            hashes = connection.from_arrow(_hashable(batch.rows)).select(
                duckdb.FunctionExpression("hash", *columns).alias("hash")
            )
            digests[:, _ID_BYTES:] = (
                np.asarray(hashes.fetchnumpy()["hash"], np.uint64).view(np.uint8).reshape(-1, _ROW_BYTES)
            )
            found.append(digests.reshape(-1).view(f"S{_ID_BYTES + _ROW_BYTES}"))
    finally:
        connection.close()
    return np.unique(np.concatenate(found))


def _hashable(rows: pa.RecordBatch) -> pa.Table:
    """Returns the rows with vectors as bytes, which are faster to hash; DuckDB has no 16-bit floats."""
    vectors = vector_columns(rows.schema)
    columns: dict[str, pa.Array] = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name in vectors:
            numbers = column.flatten().to_numpy(zero_copy_only=False)
            width = numbers.itemsize * vectors[name]
            buffers = [None, pa.py_buffer(np.ascontiguousarray(numbers))]
            column = pa.Array.from_buffers(pa.binary(width), len(column), buffers).cast(pa.binary())
        elif pa.types.is_float16(column.type):
            column = column.cast(pa.float32())
        columns[name] = column
    return pa.table(columns)

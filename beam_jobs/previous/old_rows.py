"""Rows of earlier runs: where each document's stand, and reading them again, row group by row group."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_jobs.errors import JobError
from beam_jobs.previous.index import DigestIndex, IndexWriter, from_hex

# Where a document's rows stand: file, row group, first row in it, number of rows.
PLACE_WIDTH = 4
# Counts the rows of one document from 0, where a document has several.
_COUNTING_COLUMNS = ("word_index", "window_index")
# Row groups that stay decoded: an input in its old order reads each once.
_KEPT_GROUPS = 4


@contextmanager
def opened(path: str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file, local or gs://.

    Raises:
        JobError: it cannot be read; says which.
    """
    try:
        if "://" not in path:
            with pq.ParquetFile(path) as parquet:
                yield parquet
            return
        stream = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        with stream, pq.ParquetFile(stream, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise JobError(
            f"{path}, a file of an earlier run, cannot be read: {error}. Name another run, or leave "
            "--previous out."
        ) from error


def build_index(paths: Sequence[str], folder: str) -> DigestIndex:
    """Indexes the documents of Parquet files by the digest of their text.

    Reads two columns, a row group at a time.

    Raises:
        JobError: a file cannot be read.
    """
    with IndexWriter(folder, PLACE_WIDTH) as writer:
        for number, path in enumerate(paths):
            with opened(path) as parquet:
                for group in range(parquet.metadata.num_row_groups):
                    starts, counts, digests = _documents(parquet, group)
                    places = np.empty((len(starts), PLACE_WIDTH), np.int32)
                    places[:, 0], places[:, 1], places[:, 2], places[:, 3] = number, group, starts, counts
                    writer.add(digests, places)
        return writer.finish(paths)


def _documents(parquet: pq.ParquetFile, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives first rows, numbers of rows and digests of a row group's documents."""
    counting = [name for name in _COUNTING_COLUMNS if name in parquet.schema_arrow.names]
    table = parquet.read_row_group(group, columns=["text_sha256", *counting])
    starts = np.arange(table.num_rows)
    if counting:
        starts = np.flatnonzero(table.column(counting[0]).to_numpy() == 0)
    counts = np.diff(np.append(starts, table.num_rows))
    column = table.column("text_sha256").take(pa.array(starts)).combine_chunks().cast(pa.binary())
    digests = b"".join(column.to_pylist())
    return starts, counts, from_hex(digests, len(starts))


class OldRows:
    """Reads what is taken over of documents' rows.

    Args:
        files: see ``DigestIndex.files``.
        columns: what to read; ``text_sha256`` comes with it.
    """

    def __init__(self, files: Sequence[str], columns: Sequence[str]) -> None:
        self._files = files
        self._columns = ["text_sha256", *(name for name in columns if name != "text_sha256")]
        self._kept: OrderedDict[tuple[int, int], pa.RecordBatch] = OrderedDict()

    def group(self, file: int, group: int) -> pa.RecordBatch:
        """Gives a row group's columns."""
        key = (file, group)
        if key not in self._kept:
            with opened(self._files[file]) as parquet:
                table = parquet.read_row_group(group, columns=self._columns).combine_chunks()
            while len(self._kept) >= _KEPT_GROUPS:
                self._kept.popitem(last=False)
            (self._kept[key],) = table.to_batches() or [_empty(table)]
        self._kept.move_to_end(key)
        return self._kept[key]


def _empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=table.schema)


def row_numbers(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spreads documents to their rows.

    Args:
        places: int32[documents, 4], all in one row group.

    Returns:
        int64[rows], the rows in the group; int64[rows], the position of their document.
    """
    counts = places[:, 3].astype(np.int64)
    documents = np.repeat(np.arange(len(places)), counts)
    begun = np.cumsum(counts) - counts
    rows = np.arange(len(documents)) - begun[documents] + places[documents, 2]
    return rows, documents


def by_group(places: np.ndarray) -> Mapping[tuple[int, int], np.ndarray]:
    """Groups the positions of int32[documents, 4] by file and row group, in that order."""
    order = np.lexsort((places[:, 1], places[:, 0]))
    ordered = places[order, :2]
    bounds = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    return {
        (int(places[part[0], 0]), int(places[part[0], 1])): part
        for part in np.split(order, bounds)
        if len(part)
    }

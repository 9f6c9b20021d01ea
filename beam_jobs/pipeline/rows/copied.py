"""Copies earlier rows for documents with equal texts: input columns are new, model outputs are copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.base.records import Document
from beam_jobs.errors import JobError
from beam_jobs.pipeline.rows.make import input_columns
from beam_jobs.store.row_columns import column_of

if TYPE_CHECKING:
    pass


# Size of an output batch.
_BATCH_BYTES = 16_000_000


# The location of a document's rows: file, row group, first row in it, number of rows.
PLACE_WIDTH = 4
# Columns that number the rows of a document from 0, if it can have several.
COUNTING_COLUMNS = ("word_index", "window_index")


def document_rows(rows: pa.Table | pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row and the number of rows of each document, both int64[documents]."""
    counting = [name for name in COUNTING_COLUMNS if name in rows.schema.names]
    starts = np.arange(rows.num_rows)
    if counting:
        starts = np.flatnonzero(np.asarray(rows.column(counting[0])) == 0)
    return starts, np.diff(np.append(starts, rows.num_rows))


def row_numbers(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expands documents to their rows.

    Args:
        places: int32[documents, 4], locations in one row group.

    Returns:
        int64[rows], row numbers in the group; int64[rows], the position of their document.
    """
    counts = places[:, 3].astype(np.int64)
    documents = np.repeat(np.arange(len(places)), counts)
    begun = np.cumsum(counts) - counts
    rows = np.arange(len(documents)) - begun[documents] + places[documents, 2]
    return rows, documents


def split_by_size(positions: np.ndarray, places: np.ndarray, old: pa.RecordBatch) -> Iterator[np.ndarray]:
    """Splits documents into parts whose rows fill one batch; one text may occur a million times."""
    row_bytes = max(old.nbytes // max(old.num_rows, 1), 1)
    sizes = np.cumsum(places[positions, 3].astype(np.int64) * row_bytes)
    bounds = np.flatnonzero(np.diff(sizes // _BATCH_BYTES)) + 1
    yield from np.split(positions, bounds)


def _places(taken: pa.RecordBatch) -> np.ndarray | None:
    """Returns the character span of each row, int32[rows, 2]; None if rows are whole documents."""
    if "char_start" not in taken.schema.names:
        return None
    return np.stack([taken.column(name).to_numpy() for name in ("char_start", "char_end")], axis=1)


def copy_rows(
    documents: list[Document], old: pa.RecordBatch, places: np.ndarray, schema: pa.Schema
) -> tuple[pa.RecordBatch, int]:
    """Builds rows of documents from earlier rows; also returns how many documents are truncated.

    Args:
        documents: at least one, of the new input.
        old: a row group of an earlier run.
        places: int32[documents, 4], the locations of the documents' rows in ``old``.
        schema: schema of the new rows.

    Raises:
        JobError: the rows have other texts: the file has changed since it was indexed.
    """
    numbers, texts = row_numbers(places)
    taken = old.take(pa.array(numbers))
    columns = input_columns(documents, texts, schema, _places(taken))
    if not taken.column("text_sha256").equals(columns["text_sha256"]):
        raise JobError(
            "A file of an earlier run changed while this job was running; start it again, with another "
            "--previous or without it."
        )
    for field in schema:
        if field.name not in columns:
            columns[field.name] = column_of(taken, field)
    rows = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    first = np.flatnonzero(np.append(True, texts[1:] != texts[:-1]))
    num_truncated = pc.sum(taken.column("was_truncated").take(pa.array(first))).as_py() or 0
    return rows, num_truncated

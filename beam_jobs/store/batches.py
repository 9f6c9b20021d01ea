"""A run's rows in parts that fit into memory, each with its place in the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from beam_jobs.errors import JobError
from beam_jobs.store.dataset import open_rows
from beam_jobs.store.finished_run import FinishedRun

# 25 MB of vectors of 384 numbers.
_BATCH_ROWS = 16_384
# Batches that Arrow decodes ahead; its default is 16.
_READAHEAD = 4


@dataclass(frozen=True)
class PlacedBatch:
    """Some rows, and where the first of them is: which of the run's files, which row of it."""

    file_index: int
    first_row: int
    rows: pa.RecordBatch


def read_batches(
    run: FinishedRun, columns: Sequence[str] | None = None, batch_rows: int = _BATCH_ROWS
) -> Iterator[PlacedBatch]:
    """Reads the rows of a run, file by file, in their order.

    Args:
        run: which run.
        columns: those to read; None reads all.
        batch_rows: at most so many at a time.

    Raises:
        JobError: a file of the run is missing or no Parquet file.
    """
    dataset = open_rows(run)
    for index, fragment in enumerate(dataset.get_fragments()):
        first_row = 0
        for batch in _read(fragment, dataset.schema, columns, batch_rows):
            yield PlacedBatch(index, first_row, batch)
            first_row += batch.num_rows


def _read(
    fragment: Any, schema: pa.Schema, columns: Sequence[str] | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    names = None if columns is None else list(columns)
    try:
        batches = fragment.to_batches(
            schema=schema, columns=names, batch_size=batch_rows, batch_readahead=_READAHEAD
        )
        yield from (batch for batch in batches if batch.num_rows)
    except (OSError, pa.ArrowException) as error:
        path = getattr(fragment, "path", "A file of the run")
        raise JobError(
            f"{path} cannot be read: {error}. Check the run: python -m beam_jobs.runs RUN validate"
        ) from error


def matrix(column: pa.Array, dim: int) -> np.ndarray:
    """Makes a vector column an array without touching single numbers.

    Args:
        column: list of floats, each of ``dim``.
        dim: numbers of a vector.

    Returns:
        float32[rows, dim].

    Raises:
        JobError: vectors of another length.
    """
    values = column.flatten()
    if len(values) != len(column) * dim:
        raise JobError(
            f"Expected {len(column)} vectors of {dim} numbers, found {len(values)} numbers in all. The file "
            "is damaged; check the run: python -m beam_jobs.runs RUN validate"
        )
    numbers = values.to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float32).reshape(len(column), dim)


def take_rows(run: FinishedRun, places: Sequence[tuple[int, int]], columns: Sequence[str]) -> list[Any]:
    """Reads single rows, in the order asked for, a row group at most in memory for each file.

    Args:
        run: which run.
        places: file and row in it, as ``PlacedBatch`` counts them.
        columns: those to read.

    Returns:
        One dict a place.
    """
    dataset = open_rows(run)
    fragments = list(dataset.get_fragments())
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for file_index in sorted({file for file, _ in places}):
        wanted = sorted({row for file, row in places if file == file_index})
        rows = _rows_of(fragments[file_index], dataset.schema, wanted, columns)
        found |= {(file_index, row): values for row, values in zip(wanted, rows, strict=True)}
    return [found[place] for place in places]


def _rows_of(
    fragment: ds.ParquetFileFragment, schema: pa.Schema, wanted: list[int], columns: Sequence[str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    first_row = 0
    for group in fragment.row_groups:
        here = [row - first_row for row in wanted if first_row <= row < first_row + group.num_rows]
        if here:
            part = fragment.subset(row_group_ids=[group.id])
            rows += part.to_table(schema=schema, columns=list(columns)).take(here).to_pylist()
        first_row += group.num_rows
    return rows

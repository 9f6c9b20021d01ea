"""Rows of a finished run in batches or one by one, with their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from beam_jobs.errors import JobError
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.chain import HiddenIds
from beam_jobs.store.dataset import row_files, run_schema
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import RunFile

# 25 MB of vectors with 384 dimensions.
_BATCH_ROWS = 16_384
# Batches that Arrow decodes ahead; its default is 16.
_READAHEAD = 4


@dataclass(frozen=True)
class PlacedBatch:
    """Rows with the index of their file, see ``row_files``, and their numbers in it, int64[rows]."""

    file_index: int
    row_numbers: np.ndarray
    rows: pa.RecordBatch


def read_batches(
    run: FinishedRun, columns: Sequence[str] | None = None, batch_rows: int = _BATCH_ROWS
) -> Iterator[PlacedBatch]:
    """Reads the rows of a run and of those before it in order, file by file, without those that do not count.

    Args:
        run: the run.
        columns: columns to read, ``doc_id`` among them; None reads all.
        batch_rows: maximum rows per batch.

    Raises:
        JobError: a file of the run is missing or is not Parquet.
    """
    files = row_files(run)
    if not files:
        return
    schema, hidden = run_schema(run), HiddenIds(run)
    for index, (place, file) in enumerate(files):
        first_row = 0
        for batch in _read(_fragment(run.chain[place], file, schema), schema, columns, batch_rows):
            live = hidden.live(place, batch.column("doc_id"))
            rows = np.arange(first_row, first_row + batch.num_rows)
            first_row += batch.num_rows
            if live.all():
                yield PlacedBatch(index, rows, batch)
            elif live.any():
                yield PlacedBatch(index, rows[live], batch.filter(pa.array(live)))


def _fragment(run: FinishedRun, file: RunFile, schema: pa.Schema) -> ds.ParquetFileFragment:
    (fragment,) = ds.dataset(
        [run.path_of(file)], schema=schema, format="parquet", filesystem=arrow_filesystem(run.folder)
    ).get_fragments()
    return fragment


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
    """Converts a vector column to an array without a loop over its numbers.

    Args:
        column: lists of ``dim`` floats.
        dim: dimension of the vectors.

    Returns:
        float32[rows, dim].

    Raises:
        JobError: the vectors have another dimension.
    """
    values = column.flatten()
    if len(values) != len(column) * dim:
        raise JobError(
            f"Expected {len(column)} vectors of dimension {dim}, found {len(values)} numbers in total. The "
            "file is damaged; check the run: python -m beam_jobs.runs RUN validate"
        )
    numbers = values.to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float32).reshape(len(column), dim)


def take_rows(run: FinishedRun, places: Sequence[tuple[int, int]], columns: Sequence[str]) -> list[Any]:
    """Reads single rows in the given order, with at most one row group in memory.

    Args:
        run: the run.
        places: file index and row, as in ``PlacedBatch``.
        columns: columns to read.

    Returns:
        One dict per place.
    """
    files = row_files(run)
    schema = run_schema(run) if places else None
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for file_index in sorted({file for file, _ in places}):
        wanted = sorted({row for file, row in places if file == file_index})
        place, entry = files[file_index]
        rows = _rows_of(_fragment(run.chain[place], entry, schema), schema, wanted, columns)
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

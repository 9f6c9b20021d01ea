"""Rows of a finished run: as an Arrow dataset, in batches, or one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from beam_jobs.errors import JobError
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.finished_run import FinishedRun, find_run

# 25 MB of vectors with 384 dimensions.
_BATCH_ROWS = 16_384
# Batches that Arrow decodes ahead; its default is 16.
_READAHEAD = 4


# The columns that every model has, for runs without rows.
_EMPTY = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("text_sha256", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("was_truncated", pa.bool_(), nullable=False),
    ]
)


def open_run(path: str | os.PathLike[str], fixed_size: bool = False) -> ds.Dataset:
    """Opens the rows of a finished run through its manifest; files not listed there are ignored.

    Reads only the manifest and the schema of one file; ``to_table``, ``to_batches`` and ``scanner`` read
    rows.

    Args:
        path: a run's folder, local or gs://, or the root of runs, which selects the latest finished one.
        fixed_size: vectors as ``fixed_size_list[dim]``, which Parquet does not have; else as ``list``.

    Returns:
        The dataset, its files in the order of the manifest; without vector columns if the run has no rows.

    Raises:
        UsageError: there is no run, it has not finished, or it failed.
        JobError: a file of the run is missing.
    """
    return open_rows(find_run(os.fspath(path)), fixed_size=fixed_size)


def open_rows(run: FinishedRun, *, fixed_size: bool = False) -> ds.Dataset:
    """Opens the rows of a run that has been found already, see ``open_run``."""
    paths = [run.path_of(file) for file in run.row_files]
    if not paths:
        return ds.dataset(_EMPTY.empty_table())
    filesystem = arrow_filesystem(run.folder)
    schema = run_schema(run)
    if fixed_size:
        schema = _with_fixed_size(schema)
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)


def run_schema(run: FinishedRun) -> pa.Schema:
    """Reads the schema of a run's first file, with its metadata.

    Raises:
        JobError: the file is missing.
    """
    path = run.path_of(run.row_files[0])
    try:
        with arrow_filesystem(run.folder).open_input_file(path) as stream:
            return pq.read_schema(stream)
    except FileNotFoundError as error:
        raise JobError(
            f"{path} is listed in the run's manifest but does not exist. The run is damaged: restore the "
            "file or start a new run."
        ) from error


def vector_columns(schema: pa.Schema) -> dict[str, int]:
    """Returns the vector columns and their dimensions, in order; empty if rows hold classes."""
    names = [field.name for field in schema if _is_vector(field)]
    dims = (schema.metadata or {}).get(b"beam_jobs.dimension", b"").decode()
    # Kept columns may be lists of numbers, too; the run's own columns precede them.
    return {name: int(dim) for name, dim in zip(names, filter(None, dims.split(",")), strict=False)}


def _is_vector(field: pa.Field) -> bool:
    is_list = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    is_ours = field.name == "embedding" or field.name.startswith("embedding_")
    return is_ours and is_list and bool(pa.types.is_floating(field.type.value_type))


def _with_fixed_size(schema: pa.Schema) -> pa.Schema:
    for name, dim in vector_columns(schema).items():
        index = schema.get_field_index(name)
        field = schema.field(index)
        schema = schema.set(index, field.with_type(pa.list_(field.type.value_field, dim)))
    return schema


@dataclass(frozen=True)
class PlacedBatch:
    """Consecutive rows, with the index of their file in the run and of the first row in that file."""

    file_index: int
    first_row: int
    rows: pa.RecordBatch


def read_batches(
    run: FinishedRun, columns: Sequence[str] | None = None, batch_rows: int = _BATCH_ROWS
) -> Iterator[PlacedBatch]:
    """Reads the rows of a run in order, file by file.

    Args:
        run: the run.
        columns: columns to read; None reads all.
        batch_rows: maximum rows per batch.

    Raises:
        JobError: a file of the run is missing or is not Parquet.
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

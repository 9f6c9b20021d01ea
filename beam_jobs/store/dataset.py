"""A run's rows as an Arrow dataset."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from beam_jobs.errors import JobError
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.finished_run import FinishedRun, find_run

# What a row has whatever the model is, for runs without any.
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
    """Opens the rows of a finished run, through its manifest: files that it does not list are not read.

    Nothing is read but the manifest and the schema of one file; ``to_table``, ``to_batches`` and ``scanner``
    read as much as is asked for.

    Args:
        path: a run's folder, local or gs://, or the root of runs, which means the one that finished last.
        fixed_size: vectors as ``fixed_size_list[dim]``, which Parquet has not; else as ``list``.

    Returns:
        The dataset, its files in the manifest's order. A run without rows gives one without vectors.

    Raises:
        UsageError: there is no run there, or it has not finished, or it failed; says why.
        JobError: a file of the run is missing.
    """
    return open_rows(find_run(os.fspath(path)), fixed_size=fixed_size)


def open_rows(run: FinishedRun, *, fixed_size: bool = False) -> ds.Dataset:
    """The same for a run that was found already."""
    paths = [run.path_of(file) for file in run.row_files]
    if not paths:
        return ds.dataset(_EMPTY.empty_table())
    filesystem = arrow_filesystem(run.folder)
    schema = run_schema(run)
    if fixed_size:
        schema = _with_fixed_size(schema)
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)


def run_schema(run: FinishedRun) -> pa.Schema:
    """Reads the schema of a run's first file, with what the file says of itself.

    Raises:
        JobError: the file is missing.
    """
    path = run.path_of(run.row_files[0])
    try:
        with arrow_filesystem(run.folder).open_input_file(path) as stream:
            return pq.read_schema(stream)
    except FileNotFoundError as error:
        raise JobError(
            f"{path} is listed in the run's manifest and is not there. The run is damaged: restore the file "
            "or make the run again."
        ) from error


def vector_columns(schema: pa.Schema) -> dict[str, int]:
    """Returns the vector columns and their dimensions, in order; none where rows hold classes."""
    names = [field.name for field in schema if _is_vector(field)]
    dims = (schema.metadata or {}).get(b"beam_jobs.dimension", b"").decode()
    # Kept columns may be lists of numbers, too: the run's own come before them.
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

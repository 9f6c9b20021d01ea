"""Rows of a finished run as an Arrow dataset, with those of the runs that complete it."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from beam_jobs.errors import JobError, UsageError
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.chain import HiddenIds, find_collection
from beam_jobs.store.filtered_union import FilteredUnion
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import RunFile
from beam_jobs.store.row_columns import FIRST_COLUMNS, has_added, with_added, without_added


def open_run(
    path: str | os.PathLike[str], fixed_size: bool = False, only_this_run: bool = False
) -> ds.Dataset:
    """Opens the rows of a finished run through its manifest; files not listed there are ignored.

    A run that holds only changes is opened together with the runs that complete it: the newest rows of every
    document, without those that were removed. Reads only manifests, the schema of one file per run, and the
    changes; ``to_table``, ``to_batches`` and ``scanner`` read rows.

    Args:
        path: a run's folder, local or remote, or the root of runs, which selects the latest finished one.
        fixed_size: vectors as ``fixed_size_list[dim]``, which Parquet does not have; else as ``list``.
        only_this_run: of a run that holds only changes, open these rows alone.

    Returns:
        The dataset, its files in the order of the manifest, those of earlier runs first; without vector
        columns if there are no rows.

    Raises:
        UsageError: there is no run, it has not finished, it failed, or a run that completes it is missing or
            another one.
        JobError: a file is missing, or changes were damaged.
    """
    return open_rows(find_collection(os.fspath(path), only_this_run=only_this_run), fixed_size=fixed_size)


def open_rows(run: FinishedRun, *, fixed_size: bool = False) -> ds.Dataset:
    """Opens the rows of a run and of those before it, see ``open_run``.

    Raises:
        UsageError: their columns differ.
    """
    if not row_files(run):
        return ds.dataset(pa.schema(FIRST_COLUMNS).empty_table())
    schema = run_schema(run)
    if fixed_size:
        schema = _with_fixed_size(schema)
    if not run.before:
        return _own_rows(run, schema)
    hidden = HiddenIds(run)
    return FilteredUnion(
        schema, [(_own_rows(part, schema), hidden.condition(at)) for at, part in enumerate(run.chain)]
    )


def row_files(run: FinishedRun) -> list[tuple[int, RunFile]]:
    """Returns the files with rows of a run and of those before it, by place in the chain."""
    return [(place, file) for place, part in enumerate(run.chain) for file in part.row_files]


def _own_rows(run: FinishedRun, schema: pa.Schema) -> ds.Dataset:
    paths = [run.path_of(file) for file in run.row_files]
    if not paths:
        return ds.dataset(schema.empty_table())
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=arrow_filesystem(run.folder))


def run_schema(run: FinishedRun) -> pa.Schema:
    """Reads the schema of a run's first file, with its metadata; its own rows come before those of others.

    It has a column that only some of the runs have because the others are older.

    Raises:
        UsageError: the runs before it have other columns.
        JobError: the file is missing.
    """
    first: pa.Schema | None = None
    is_added = False
    for part in reversed(run.chain):
        if not part.row_files:
            continue
        schema = file_schema(part, part.row_files[0])
        first = schema if first is None else first
        is_added |= has_added(schema)
        if not without_added(schema).equals(without_added(first)):
            raise UsageError(
                f"The columns of {part.folder} and of the changes in {run.folder} differ, so their rows are "
                f"not one collection: {', '.join(_differing(schema, first))}. Run the job again with --emit "
                "all, or use --only_this_run (open_run: only_this_run=True)."
            )
    assert first is not None, "callers look for files with rows first"
    return with_added(first) if is_added else first


def file_schema(run: FinishedRun, file: RunFile) -> pa.Schema:
    """Reads the schema of one file of a run, with its metadata.

    Raises:
        JobError: the file is missing.
    """
    path = run.path_of(file)
    try:
        with arrow_filesystem(run.folder).open_input_file(path) as stream:
            return pq.read_schema(stream)
    except FileNotFoundError as error:
        raise JobError(
            f"{path} is listed in the run's manifest but does not exist. The run is damaged: restore the "
            "file or start a new run."
        ) from error


def _differing(one: pa.Schema, other: pa.Schema) -> list[str]:
    """Returns the names of fields that only one schema has, or that have another type; else all names."""
    fields = {(field.name, str(field.type)) for field in one} ^ {(f.name, str(f.type)) for f in other}
    return sorted({name for name, _ in fields}) or list(one.names)


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

"""Checks on the rows of a run: finite vectors of the promised length, no nulls, unique ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from beam_jobs.base.units import count
from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.batches import matrix, read_batches
from beam_jobs.store.dataset import open_rows, run_schema, vector_columns
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import RunFile

MEMORY_LIMIT = "1GB"
# Columns that distinguish the rows of one document.
_PLACES = ("window_index", "word_index")
# Generous bound on how far storing a unit vector in 16 bits changes its length; float32 stays far below.
_NORM_TOLERANCE = 5e-3
_SHOWN_IDS = 3


def check_values(run: FinishedRun, file: RunFile) -> Iterator[str]:
    """Reads the rows of one file and yields the problems found in them.

    Raises:
        JobError: the file cannot be read.
    """
    alone = replace(run, manifest=run.manifest.model_copy(update={"files": (file,)}))
    schema = run_schema(alone)
    vectors = vector_columns(schema)
    scores = [f.name for f in schema if f.name in ("scores", "logits", "score") and _holds_floats(f.type)]
    required = [f.name for f in schema if not f.nullable]
    is_unit = (schema.metadata or {}).get(b"beam_jobs.normalized") == b"true"
    wrong: dict[str, _Wrong] = {}
    columns = list(dict.fromkeys(["doc_id", *required, *vectors, *scores]))
    for part in read_batches(alone, columns):
        rows = part.rows
        for name in required:
            _note(wrong, f"{name} is null", rows, rows.column(name).is_null().to_numpy(zero_copy_only=False))
        for name, dim in vectors.items():
            numbers = matrix(rows.column(name), dim)
            finite = np.isfinite(numbers).all(axis=1)
            _note(wrong, f"{name} has NaN or infinity", rows, ~finite)
            norms = np.linalg.norm(numbers, axis=1)
            _note(wrong, f"{name} has only zeros", rows, norms == 0)
            if is_unit:
                off = finite & (norms != 0) & (np.abs(norms - 1) > _NORM_TOLERANCE)
                _note(wrong, f"{name} does not have length 1", rows, off)
        for name in scores:
            _note(wrong, f"{name} has NaN or infinity", rows, _not_finite(rows.column(name)))
    for what, found in wrong.items():
        yield f"{file.path}: {what} in {count(found.num_rows, 'row')}, such as {', '.join(found.examples)}"


@dataclass
class _Wrong:
    """Rows with one problem: their number and some of their ids."""

    num_rows: int = 0
    examples: tuple[str, ...] = ()


def _note(wrong: dict[str, _Wrong], what: str, rows: pa.RecordBatch, mask: np.ndarray) -> None:
    if mask.any():
        noted = wrong.setdefault(what, _Wrong())
        noted.num_rows += int(mask.sum())
        ids = rows.column("doc_id").filter(pa.array(mask)).slice(0, _SHOWN_IDS).to_pylist()
        noted.examples = (*noted.examples, *map(str, ids))[:_SHOWN_IDS]


def _holds_floats(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_list(kind) else kind
    return bool(pa.types.is_floating(value))


def _not_finite(column: pa.Array) -> np.ndarray:
    """Returns bool[rows]: whether the value, or any value of the list, is not finite."""
    if not pa.types.is_list(column.type):
        return np.asarray(~np.isfinite(column.to_numpy(zero_copy_only=False).astype(np.float64)))
    bad = ~np.isfinite(column.flatten().to_numpy(zero_copy_only=False).astype(np.float64))
    rows = np.repeat(np.arange(len(column)), column.value_lengths().to_numpy(zero_copy_only=False))
    return np.asarray(np.bincount(rows[bad], minlength=len(column)) > 0)


@dataclass(frozen=True)
class DuplicateIds:
    """Counts of duplicate ids, of documents with rows, and of those that also have a dead letter."""

    num_duplicates: int
    examples: tuple[str, ...]
    num_documents: int
    num_with_dead_letter: int


def find_duplicates(run: FinishedRun, memory_limit: str = MEMORY_LIMIT) -> DuplicateIds:
    """Counts the ids of a run that are not unique.

    Args:
        run: a finished run with undamaged files.
        memory_limit: memory that DuckDB may use before it spills to a temporary folder.
    """
    rows = open_rows(run)
    # DuckDB does not support some types of other columns, such as 16-bit floats.
    fields = [field for field in rows.schema if field.name in ("doc_id", *_PLACES)]
    rows = rows.replace_schema(pa.schema(fields))
    paths = [run.path_of(file) for file in run.dead_letter_files]
    filesystem = arrow_filesystem(run.folder)
    dead = ds.dataset(paths, DEAD_LETTER_SCHEMA, format="parquet", filesystem=filesystem)
    place = ", ".join(name for name in _PLACES if name in rows.schema.names) or "0"
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET memory_limit = $limit", {"limit": memory_limit})
        connection.execute("SET temp_directory = $folder", {"folder": folder})
        connection.execute("SET preserve_insertion_order = false")
        connection.register("rows", rows)
        connection.register("dead", dead)
        # Rows and documents are grouped by separate queries, which lowers peak memory.
        num_duplicates, examples = _one(
            connection,
            f"""
            SELECT count(*), min(doc_id, {_SHOWN_IDS}) FROM (
                SELECT DISTINCT doc_id FROM (
                    SELECT doc_id, ({place}) AS place, 0 AS kind FROM rows
                    UNION ALL SELECT doc_id, NULL, 1 FROM dead
                ) GROUP BY doc_id, place, kind HAVING count(*) > 1
            )
            """,
        )
        (num_documents,) = _one(connection, "SELECT count(*) FROM (SELECT DISTINCT doc_id FROM rows)")
        (num_with_dead_letter,) = _one(
            connection, "SELECT count(DISTINCT dead.doc_id) FROM rows JOIN dead USING (doc_id)"
        )
    return DuplicateIds(
        int(num_duplicates), tuple(examples or ()), int(num_documents), int(num_with_dead_letter)
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate without groups returns one row"
    return row

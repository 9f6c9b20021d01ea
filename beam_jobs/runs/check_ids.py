"""Ids that are there twice, counted by DuckDB: on disk where they do not fit into memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.dataset import open_rows
from beam_jobs.store.finished_run import FinishedRun

MEMORY_LIMIT = "1GB"
# What tells the rows of one document apart.
_PLACES = ("window_index", "word_index")


@dataclass(frozen=True)
class DuplicateIds:
    """What was found: ids twice, some of them, documents that have rows, and those that are dead, too."""

    num_twice: int
    examples: tuple[str, ...]
    num_documents: int
    num_dead_too: int


def find_duplicates(run: FinishedRun, memory_limit: str = MEMORY_LIMIT) -> DuplicateIds:
    """Counts the ids of a run that are not unique.

    Args:
        run: a finished run, its files whole.
        memory_limit: what DuckDB may use before it writes to a temporary folder.
    """
    rows = _only_ids(open_rows(run))
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
        # One pass groups rows, a second one the documents: each holds what the other does not need.
        num_twice, examples = _one(
            connection,
            f"""
            SELECT count(*), min(doc_id, 3) FROM (
                SELECT doc_id FROM (
                    SELECT doc_id, ({place}) AS place, 0 AS kind FROM rows
                    UNION ALL SELECT doc_id, NULL, 1 FROM dead
                ) GROUP BY doc_id, place, kind HAVING count(*) > 1
            )
            """,
        )
        (num_documents,) = _one(connection, "SELECT count(*) FROM (SELECT DISTINCT doc_id FROM rows)")
        (num_dead_too,) = _one(
            connection, "SELECT count(DISTINCT dead.doc_id) FROM rows JOIN dead USING (doc_id)"
        )
    return DuplicateIds(int(num_twice), tuple(examples or ()), int(num_documents), int(num_dead_too))


def _only_ids(rows: ds.Dataset) -> ds.Dataset:
    """Hides every other column: DuckDB has no type for some, such as 16-bit floats."""
    names = [name for name in ("doc_id", *_PLACES) if name in rows.schema.names]
    return rows.replace_schema(pa.schema([rows.schema.field(name) for name in names]))


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate without groups gives one row"
    return row

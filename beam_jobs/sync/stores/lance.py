"""LanceDB: a table in a local folder, which readers can open while it is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from beam_jobs.errors import JobError, UsageError
from beam_jobs.store.batches import matrix
from beam_jobs.sync.mark import MARKS, Mark, check_columns
from beam_jobs.sync.store import Layout, RowKey
from beam_jobs.sync.stores.folder_lock import locked

# Ids in one condition; its text is parsed for every fragment of the table.
_MOST_IDS = 1_000
_NO_LIMIT = 2**31 - 1


class LanceStore:
    """A table of a LanceDB folder, see ``Store``. Deleting and adding are two versions of the table.

    Args:
        folder: local.
        table: name of the table.
        writes: whether to lock the folder, which is created if its parent exists.

    Raises:
        UsageError: no folder or no rights, another sync has it open, or the table is not a sync's.
    """

    is_exact = True

    def __init__(self, folder: str, table: str, *, writes: bool) -> None:
        self.where = f"the table {table} in {folder}"
        self._name = table
        if not writes and not Path(folder).is_dir():
            raise UsageError(f"There is no folder {folder}.")
        self._lock = locked(Path(folder), self.where) if writes else None
        try:
            self._database = lancedb.connect(folder)
            self._table, self._marks = self._open(table), self._open(MARKS)
            found = self._marks.search().where(f"name = {_text(table)}").to_list() if self._marks else []
            self._text: str | None = found[0]["mark"] if found else None
            if self._table is not None and self._text is None:
                raise UsageError(
                    f"{self.where} exists, and no sync made it. Name another --table. Nothing was written."
                )
        except BaseException:
            self.close()
            raise

    def _open(self, name: str) -> Any:
        try:
            return self._database.open_table(name)
        except ValueError as error:
            if "not found" in str(error):
                return None
            raise UsageError(f"{self.where} cannot be opened: {error}. Nothing was written.") from error

    def read_mark(self) -> Mark | None:
        """Returns the mark; None if there is no table yet."""
        if self._table is None or self._text is None:
            return None
        mark = Mark.from_json(self._text, self.where)
        check_columns(mark, self._table.schema.names, self.where)
        return mark

    def begin(self, mark: Mark, layout: Layout) -> None:
        """Writes a mark, then creates the table: an empty one without a mark would be nobody's."""
        if self._marks is None:
            schema = pa.schema([pa.field("name", pa.string()), pa.field("mark", pa.string())])
            self._marks = self._database.create_table(MARKS, schema=schema)
        self._put_mark(mark)
        self._schema = pa.schema([_fixed_size(field, layout) for field in layout.schema])
        if self._table is None:
            self._table = self._database.create_table(self._name, schema=self._schema)

    def write(self, gone: Sequence[str], rows: pa.RecordBatch | None, mark: Mark | None = None) -> None:
        """Deletes, adds and writes the mark, each as a version of its own."""
        try:
            for start in range(0, len(gone), _MOST_IDS):
                self._table.delete(_among(gone[start : start + _MOST_IDS]))
            if rows is not None:
                self._table.add(pa.Table.from_batches([rows]).cast(self._schema))
            if mark is not None:
                self._table.optimize()
                self._put_mark(mark)
        except (OSError, RuntimeError, ValueError) as error:
            raise JobError(
                f"Writing to {self.where} failed: {error}. The same command starts again where needed."
            ) from error

    def _put_mark(self, mark: Mark) -> None:
        row = pa.table({"name": [self._name], "mark": [mark.model_dump_json()]})
        self._marks.merge_insert("name").when_matched_update_all().when_not_matched_insert_all().execute(row)

    def doc_ids(self) -> Iterator[list[str]]:
        """Yields the ids of all rows, in batches."""
        for batch in self._table.search().select(["doc_id"]).limit(_NO_LIMIT).to_batches():
            yield batch.column("doc_id").to_pylist()

    def num_rows(self) -> int:
        """Returns the number of rows."""
        return int(self._table.count_rows())

    def vectors_of(self, doc_ids: Sequence[str], layout: Layout) -> dict[RowKey, list[np.ndarray]]:
        """Returns the vectors of the rows of some documents."""
        query = self._table.search().where(_among(doc_ids)).limit(_NO_LIMIT)
        rows = query.select([*layout.key, *layout.dimensions]).to_arrow().combine_chunks()
        places = rows[layout.place].to_pylist() if layout.place else [0] * rows.num_rows
        columns = [
            matrix(rows[name].combine_chunks(), dim) if rows.num_rows else np.zeros((0, dim), np.float32)
            for name, dim in layout.dimensions.items()
        ]
        keys = zip(rows["doc_id"].to_pylist(), places, strict=True)
        return {key: [column[at] for column in columns] for at, key in enumerate(keys)}

    def close(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            os.close(self._lock)


def _fixed_size(field: pa.Field, layout: Layout) -> pa.Field:
    dim = layout.dimensions.get(field.name)
    return field if dim is None else field.with_type(pa.list_(field.type.value_type, dim))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _among(doc_ids: Sequence[str]) -> str:
    return f"doc_id IN ({', '.join(map(_text, doc_ids))})"

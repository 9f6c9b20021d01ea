"""What a store has to do for ``beam_jobs.sync``: the interface of ``beam_jobs.sync.stores``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from beam_jobs.sync.mark import Mark

# The key of a row: its document's id, and its window or word in it; 0 where rows are documents.
RowKey = tuple[str, int]


@dataclass(frozen=True)
class Layout:
    """The rows of a run as a table.

    Args:
        schema: the columns of the run's files.
        dimensions: its vector columns.
        place: the column that tells the rows of a document apart; None where rows are documents.
    """

    schema: pa.Schema
    dimensions: dict[str, int]
    place: str | None

    @property
    def key(self) -> list[str]:
        """The columns that identify a row."""
        return ["doc_id", self.place] if self.place else ["doc_id"]


class Store(Protocol):
    """A table in a store, opened for one sync: no other sync can have it open.

    A constructor connects and raises ``UsageError`` for a wrong address, missing rights, a table that no
    sync made, or one that another sync has open; it writes nothing.
    """

    # What the table is called in messages, and whether it keeps vectors bit by bit or only their directions.
    where: str
    is_exact: bool

    def read_mark(self) -> Mark | None:
        """Returns the mark; None if there is no table yet."""

    def begin(self, mark: Mark, layout: Layout) -> None:
        """Writes a mark, and creates the table if there is none, in one step.

        Raises:
            UsageError: rights are missing; nothing was written.
        """

    def write(self, gone: Sequence[str], rows: pa.RecordBatch | None, mark: Mark | None = None) -> None:
        """Deletes all rows of some documents, adds rows, and then replaces the mark.

        In one transaction if the store has them. Otherwise in this order; called again with the same
        arguments, it ends with the same rows.

        Args:
            gone: ids of documents, those of ``rows`` among them if the table may have them.
            rows: rows with the columns of the layout; all rows of their documents.
            mark: of the last batch.
        """

    def doc_ids(self) -> Iterator[list[str]]:
        """Yields the ids of all rows, in batches."""

    def num_rows(self) -> int:
        """Returns the number of rows."""

    def vectors_of(self, doc_ids: Sequence[str], layout: Layout) -> dict[RowKey, list[np.ndarray]]:
        """Returns the vectors of the rows of some documents, float32[dim] for each vector column."""

    def close(self) -> None:
        """Ends the connection, and with it the exclusive use."""

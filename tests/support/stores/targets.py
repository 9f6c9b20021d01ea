"""Databases that a sync writes to, as tests see them: an address, and all that a table holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from beam_jobs import open_run
from beam_jobs.store.chain import find_collection
from beam_jobs.sync.__main__ import main, open_store, sync_parser
from beam_jobs.sync.apply import layout_of
from beam_jobs.sync.progress import Progress
from beam_jobs.sync.store import Layout, Store
from tests.support.runs.jobs import capture

Rows = list[dict[str, Any]]
# A document: the seed of its vector, and a kept column.
State = dict[str, tuple[int, str]]
DIM = 4


class Target(Protocol):
    """A database of its own for a test."""

    url: str

    @property
    def to(self) -> tuple[str, ...]:
        """The flags that name it."""

    def rows(self, table: str = "embeddings") -> Rows:
        """Returns all rows by id and place."""

    def state(self) -> object:
        """Returns something that changes with each write."""

    def run(self, statement: str) -> None:
        """Changes the table ``embeddings`` as somebody else might: ``delete ID`` or ``drop``."""

    def make_foreign(self) -> None:
        """Creates a table ``embeddings`` that no sync made."""


@dataclass
class LanceTarget:
    """A folder of LanceDB."""

    folder: Path

    @property
    def url(self) -> str:
        """The address."""
        return f"lancedb:{self.folder}"

    @property
    def to(self) -> tuple[str, ...]:
        """The flags."""
        return ("--to", self.url)

    def _tables(self) -> list[Path]:
        return sorted(self.folder.glob("*.lance"))

    def _open(self, table: str) -> Any:
        import lancedb

        return lancedb.connect(str(self.folder)).open_table(table)

    def rows(self, table: str = "embeddings") -> Rows:
        """Returns all rows."""
        return in_order(self._open(table).to_arrow().to_pylist())

    def state(self) -> object:
        """Returns the files of the tables."""
        return sorted(str(path) for table in self._tables() for path in table.rglob("*") if path.is_file())

    def run(self, statement: str) -> None:
        """Changes the table."""
        import lancedb

        verb, _, name = statement.partition(" ")
        if verb == "drop":
            lancedb.connect(str(self.folder)).drop_table("embeddings")
        else:
            self._open("embeddings").delete(f"doc_id = '{name}'")

    def make_foreign(self) -> None:
        """Creates the table."""
        import lancedb

        lancedb.connect(str(self.folder)).create_table("embeddings", data=[{"mine": 1}])


@dataclass
class PostgresTarget:
    """A database of a server."""

    url: str

    @property
    def to(self) -> tuple[str, ...]:
        """The flags."""
        return ("--to", self.url)

    def query(self, query: str) -> list[Any]:
        """Runs a statement."""
        import psycopg

        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            cursor = connection.cursor(binary=True)  # else a 32-bit float comes as the shortest decimal
            cursor.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def rows(self, table: str = "embeddings") -> Rows:
        """Returns all rows."""
        columns = (
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            f"WHERE attrelid = '{table}'::regclass AND attnum > 0"
        )
        kinds = dict(self.query(columns))
        as_list = {"vector": "::real[]", "halfvec": "::real[]"}
        quoted = {name: '"' + name.replace('"', '""') + '"' for name in kinds}
        wanted = ", ".join(quoted[name] + as_list.get(kind, "") for name, kind in kinds.items())
        found = self.query(f"SELECT {wanted} FROM {table}")
        return in_order([dict(zip(kinds, row, strict=True)) for row in found])

    def state(self) -> object:
        """Returns the places of all rows and the transactions that wrote them."""
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        names = [name for (name,) in self.query(tables)]
        return [
            (name, self.query(f'SELECT ctid::text, xmin::text FROM "{name}" ORDER BY 1')) for name in names
        ]

    def run(self, statement: str) -> None:
        """Changes the table."""
        verb, _, name = statement.partition(" ")
        delete = f"DELETE FROM embeddings WHERE doc_id = '{name}'"
        self.query("DROP TABLE embeddings" if verb == "drop" else delete)

    def make_foreign(self) -> None:
        """Creates the table."""
        self.query("CREATE TABLE embeddings (mine integer)")


@dataclass
class QdrantTarget:
    """A folder of Qdrant's client; by the dot product, which leaves vectors as they are."""

    folder: Path

    @property
    def url(self) -> str:
        """The address."""
        return f"qdrant:{self.folder}"

    @property
    def to(self) -> tuple[str, ...]:
        """The flags."""
        return ("--to", self.url, "--distance", "dot")

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from qdrant_client import QdrantClient

        with closing(QdrantClient(path=str(self.folder))) as client:
            yield client

    def rows(self, table: str = "embeddings") -> Rows:
        """Returns all rows."""
        with self._client() as client:
            points, _ = client.scroll(table, limit=10_000, with_vectors=True)
        return in_order([{**point.payload, **point.vector} for point in points])

    def state(self) -> object:
        """Returns the digests of its files but for the lock."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return sorted((str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)

    def run(self, statement: str) -> None:
        """Changes the collection."""
        from qdrant_client import models

        verb, _, name = statement.partition(" ")
        match = models.FieldCondition(key="doc_id", match=models.MatchValue(value=name))
        with self._client() as client:
            if verb == "drop":
                client.delete_collection("embeddings")
            else:
                client.delete("embeddings", models.FilterSelector(filter=models.Filter(must=[match])))

    def make_foreign(self) -> None:
        """Creates the collection."""
        with self._client() as client:
            client.create_collection("embeddings", vectors_config={})


def in_order(rows: Rows) -> Rows:
    """Returns rows by id and place."""
    return sorted(rows, key=lambda row: (row["doc_id"], row.get("window_index", 0)))


def opened(run: Path, target: Target) -> tuple[Any, Layout, Store, Progress]:
    """Opens a run and a store as the command does; the store is to be closed."""
    progress = Progress(io.StringIO())
    flags = sync_parser().parse_args([str(run), *target.to])
    found = find_collection(str(run))
    return found, layout_of(found), open_store(flags, progress), progress


def shards(state: State, size: int = 4) -> list[dict[str, Any]]:
    """Rows of these documents, in files and row groups of a few."""
    names = sorted(state)
    return [
        {
            "ids": part,
            "vectors": [np.random.default_rng(state[name][0]).normal(size=DIM) for name in part],
            "topic": [state[name][1] for name in part],
        }
        for part in (names[at : at + size] for at in range(0, len(names), size))
    ]


def letters(text: str, seed: int = 0) -> State:
    """A document for each letter."""
    return {name: (ord(name) + 1000 * seed, "old") for name in text}


def rows_of(run: Path) -> Rows:
    """Returns the rows that a table should have."""
    return in_order(open_run(run).to_table().to_pylist())


def call(*arguments: Any) -> tuple[int, str, str]:
    """Runs the command; returns its exit code and what it printed."""
    with capture() as (out, err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def bring(target: Target, run: Path, *more: str) -> str:
    """Runs the command, checks the table row by row, and returns what was said."""
    code, out, err = call(run, *target.to, *more)
    assert (code, err.count("error")) == (0, 0), err
    assert target.rows() == rows_of(run)
    return out

"""PostgreSQL with pgvector: one transaction per batch, and an HNSW index per vector column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from beam_jobs.errors import JobError, UsageError
from beam_jobs.sync.mark import MARKS, Mark, check_columns
from beam_jobs.sync.store import Layout, RowKey
from beam_jobs.sync.stores.postgres_rows import INDEXED_NUMBERS, copy_data, sql_types

_OPERATORS = {
    "cosine": "cosine_ops",
    "dot": "ip_ops",
    "euclidean": "l2_ops",
    "manhattan": "l1_ops",
}
_FETCH_ROWS = 10_000


class PostgresStore:
    """A table of a PostgreSQL database, see ``Store``.

    Args:
        url: ``postgresql://…``, as libpq takes it: https://www.postgresql.org/docs/current/libpq-connect.html
        table: its name, with its schema before a dot if it is not in the first one of the search path.
        distance: of the index: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        say: prints what takes long.
        writes: whether to lock the table and to check rights to write.

    Raises:
        UsageError: no connection, no rights, another sync has the table open, or it is not a sync's.
    """

    is_exact = True

    def __init__(
        self, url: str, table: str, distance: str, say: Callable[[str], None], *, writes: bool
    ) -> None:
        self._distance, self._say = distance, say
        self._types: dict[str, str] = {}
        try:
            self._connection = psycopg.connect(
                url, autocommit=True, connect_timeout=20, application_name="beam_jobs.sync"
            )
        except psycopg.Error as error:
            raise UsageError(f"No connection to PostgreSQL: {_said(error)}. Nothing was written.") from error
        try:
            self._open(table, writes)
        except BaseException:
            self.close()
            raise

    def _open(self, table: str, writes: bool) -> None:
        schema, _, name = table.rpartition(".")
        schema = schema or self._value("SELECT current_schema()") or ""
        self.where = f"the table {schema}.{name}"
        self._name = name
        self._table, self._marks = (sql.Identifier(schema, part) for part in (name, MARKS))
        with _as_usage(self.where):
            lock = f"beam_jobs.sync:{schema}.{name}"
            if writes and not self._value("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", lock):
                raise UsageError(
                    f"Another sync is writing to {self.where}. Wait for it. Nothing was written."
                )
            self._has_table, self._has_marks = (
                self._value("SELECT to_regclass(%s)", _quoted(part)) is not None
                for part in (self._table, self._marks)
            )
            if writes:
                self._check_rights(schema)
            self._text = self._read_text()
        if self._has_table and self._text is None:
            raise UsageError(
                f"{self.where} exists, and no sync made it. Name another --table. Nothing was written."
            )

    def _check_rights(self, schema: str) -> None:
        if self._value("SELECT to_regnamespace(quote_ident(%s))", schema) is None:
            raise UsageError(f"The database has no schema {schema!r}. Create it. Nothing was written.")
        lacking = [
            f"{right} on {_quoted(part)}"
            for part, exists, rights in (
                (self._table, self._has_table, ("SELECT", "INSERT", "DELETE")),
                (self._marks, self._has_marks, ("SELECT", "INSERT", "UPDATE")),
            )
            for right in rights
            if exists and not self._value("SELECT has_table_privilege(%s, %s)", _quoted(part), right)
        ]
        creates = not (self._has_table and self._has_marks)
        if creates and not self._value("SELECT has_schema_privilege(%s, 'CREATE')", schema):
            lacking.append(f"CREATE on the schema {schema}")
        if lacking:
            raise UsageError(
                f"{self.where} cannot be written: the user {self._value('SELECT current_user')} lacks "
                f"{', '.join(lacking)}. Nothing was written."
            )

    def read_mark(self) -> Mark | None:
        """Returns the mark; None if there is no table yet."""
        if not self._has_table or self._text is None:
            return None
        mark = Mark.from_json(self._text, self.where)
        query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        found = {name for (name,) in self._rows(query, _quoted(self._table))}
        check_columns(mark, found, self.where)
        return mark

    def _read_text(self) -> str | None:
        if not self._has_marks:
            return None
        query = sql.SQL("SELECT mark FROM {} WHERE name = %s").format(self._marks)
        text: str | None = self._value(query, self._name)
        return text

    def begin(self, mark: Mark, layout: Layout) -> None:
        """Writes a mark; creates extension, tables and mark in one transaction if there are none."""
        self._types = sql_types(layout)
        with _as_usage(self.where), self._connection.transaction():
            if not self._value("SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
                self._connection.execute("CREATE EXTENSION vector")
            if not self._has_marks:
                self._run("CREATE TABLE {} (name text PRIMARY KEY, mark text NOT NULL)", self._marks)
            if not self._has_table:
                key = sql.SQL(", ").join(map(sql.Identifier, layout.key))
                columns = [
                    sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
                    for name, kind in self._types.items()
                ]
                names = sql.SQL(", ").join(columns)
                self._run("CREATE TABLE {} ({}, PRIMARY KEY ({}))", self._table, names, key)
            text = mark.model_dump_json()
            if self._text is None:
                self._run("INSERT INTO {} VALUES (%s, %s)", self._marks, values=(self._name, text))
                self._text = text
            else:
                self._put_mark(text)
        self._has_table = self._has_marks = True

    def write(self, gone: Sequence[str], rows: pa.RecordBatch | None, mark: Mark | None = None) -> None:
        """Deletes, copies rows and writes the mark in one transaction; the last one builds the index."""
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                if gone:
                    self._run("DELETE FROM {} WHERE doc_id = ANY(%s)", self._table, values=(list(gone),))
                if rows is not None:
                    names = sql.SQL(", ").join(map(sql.Identifier, self._types))
                    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(self._table, names)
                    with cursor.copy(into) as copy:
                        for data in copy_data(rows, self._types):
                            copy.write(data)
                if mark is not None:
                    self._build_indexes()
                    self._put_mark(mark.model_dump_json())
        except psycopg.Error as error:
            raise JobError(
                f"Writing to {self.where} failed: {_said(error)}. The batch was rolled back; the same "
                "command continues."
            ) from error

    def _put_mark(self, text: str) -> None:
        query = sql.SQL("UPDATE {} SET mark = %s WHERE name = %s AND mark = %s").format(self._marks)
        if self._connection.execute(query, (text, self._name, self._text)).rowcount != 1:
            raise JobError(
                f"Another process changed the mark of {self.where} in {MARKS}. Run the command again alone."
            )
        self._text = text

    def _build_indexes(self) -> None:
        query = (
            "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON "
            "a.oid = c.relam WHERE i.indrelid = %s::regclass AND a.amname IN ('hnsw', 'ivfflat')"
        )
        if self._value(query, _quoted(self._table)):
            return
        for name, kind in self._types.items():
            base, _, dim = kind.rstrip(")").partition("(")
            if base not in INDEXED_NUMBERS:
                continue
            if int(dim) > INDEXED_NUMBERS[base]:
                self._say(f"No index of {name}: pgvector's takes at most {INDEXED_NUMBERS[base]:,} numbers.")
                continue
            self._say(f"Building the index of {name}")
            operators = sql.SQL(f"{base}_{_OPERATORS[self._distance]}")
            self._run("CREATE INDEX ON {} USING hnsw ({} {})", self._table, sql.Identifier(name), operators)

    def doc_ids(self) -> Iterator[list[str]]:
        """Yields the ids of all rows, in batches."""
        query = sql.SQL("SELECT doc_id FROM {}").format(self._table)
        with self._connection.transaction(), self._connection.cursor("doc_ids") as cursor:
            cursor.execute(query)
            while found := cursor.fetchmany(_FETCH_ROWS):
                yield [name for (name,) in found]

    def num_rows(self) -> int:
        """Returns the number of rows."""
        return int(self._value(sql.SQL("SELECT count(*) FROM {}").format(self._table)))

    def vectors_of(self, doc_ids: Sequence[str], layout: Layout) -> dict[RowKey, list[np.ndarray]]:
        """Returns the vectors of the rows of some documents."""
        place = sql.Identifier(layout.place) if layout.place else sql.SQL("0")
        vectors = [sql.SQL("{}::real[]").format(sql.Identifier(name)) for name in layout.dimensions]
        columns = sql.SQL(", ").join([sql.Identifier("doc_id"), place, *vectors])
        query = sql.SQL("SELECT {} FROM {} WHERE doc_id = ANY(%s)").format(columns, self._table)
        return {
            (row[0], row[1]): [np.asarray(vector, np.float32) for vector in row[2:]]
            for row in self._rows(query, list(doc_ids))
        }

    def close(self) -> None:
        """Ends the connection, and with it the lock."""
        self._connection.close()

    def _run(self, query: Any, *names: sql.Composable, values: Sequence[Any] = ()) -> None:
        self._connection.execute(sql.SQL(query).format(*names), values or None)

    def _rows(self, query: Any, *values: Any) -> list[Any]:
        return list(self._connection.execute(query, values, binary=True).fetchall())

    def _value(self, query: Any, *values: Any) -> Any:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]


def _quoted(name: sql.Identifier) -> str:
    return str(name.as_string(None))


def _said(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _as_usage(where: str) -> Iterator[None]:
    """Turns errors before the first batch into one message."""
    try:
        yield
    except psycopg.Error as error:
        raise UsageError(f"{where} cannot be used: {_said(error)}. Nothing was written.") from error

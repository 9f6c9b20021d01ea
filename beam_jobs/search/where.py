"""``--where``: an SQL condition that DuckDB evaluates on the rows of a batch."""

from __future__ import annotations

import re

import duckdb
import numpy as np
import pyarrow as pa

from beam_jobs.errors import UsageError
from beam_jobs.store.dataset import vector_columns

# A table needs a column even if the condition names none.
_NUMBER = "__row_of_batch"


class Condition:
    """An SQL condition on one row, such as ``topic = 'trains' AND year >= 2020``.

    It is a single expression. DuckDB has access only to the columns that it names: to no file, no other table
    and no setting. Vectors and 16-bit floats are excluded, as too large and as a type that DuckDB does not
    have.

    Args:
        sql: the expression after WHERE.
        schema: the schema of the rows.

    Raises:
        UsageError: not a condition on these columns; the message includes DuckDB's.
    """

    def __init__(self, sql: str, schema: pa.Schema) -> None:
        self._sql = sql
        vectors = vector_columns(schema)
        readable = [f for f in schema if f.name not in vectors and not pa.types.is_float16(f.type)]
        # A name inside a text counts, too, which only costs time.
        pattern = r"(?<!\w){}(?!\w)"
        names = [field.name for field in readable]
        self.columns = tuple(n for n in names if re.search(pattern.format(re.escape(n)), sql, re.IGNORECASE))
        self._connection = duckdb.connect(
            config={"enable_external_access": "false", "python_enable_replacements": "false", "threads": "1"}
        )
        self._connection.execute("SET lock_configuration = true")
        empty = pa.schema([schema.field(name) for name in self.columns]).empty_table()
        try:
            self._evaluate(empty)
        except duckdb.Error as error:
            known = ", ".join(field.name for field in readable)
            raise UsageError(
                f"--where {sql}: {str(error).splitlines()[0]} Expected a condition on the columns of a row, "
                f"such as: num_tokens > 10. The columns are: {known}."
            ) from error

    def mask(self, rows: pa.RecordBatch) -> np.ndarray:
        """Returns bool[rows]: whether each row satisfies the condition; False where it is null.

        Raises:
            UsageError: DuckDB failed on these values, for instance in a cast.
        """
        try:
            return self._evaluate(pa.Table.from_batches([rows]).select(list(self.columns)))
        except duckdb.Error as error:
            raise UsageError(f"--where {self._sql}: {str(error).splitlines()[0]}") from error

    def _evaluate(self, rows: pa.Table) -> np.ndarray:
        numbered = rows.append_column(_NUMBER, pa.array(np.arange(len(rows)), pa.int64()))
        relation = self._connection.from_arrow(numbered)
        # The parser takes it as one expression; pasted into a query, it could close a parenthesis and go on.
        expression = duckdb.SQLExpression(self._sql)
        kinds = relation.select(expression).types
        if kinds != ["BOOLEAN"]:
            raise duckdb.BinderException(f"It returns {', '.join(map(str, kinds))}, not true or false.")
        # Other than SELECT, WHERE allows nothing that makes more rows or fewer, such as count(*).
        found = relation.filter(expression).select(duckdb.ColumnExpression(_NUMBER)).fetchnumpy()[_NUMBER]
        mask = np.zeros(len(rows), dtype=bool)
        mask[found] = True
        return mask

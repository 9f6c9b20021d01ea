"""``--where``: an SQL condition that DuckDB evaluates on the rows of a batch."""

from __future__ import annotations

import re
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from beam_jobs.errors import UsageError
from beam_jobs.store.dataset import vector_columns

_MASK = "condition"
# A table needs a column even if the condition names none.
_NUMBER = "__row_of_batch"


class Condition:
    """An SQL condition on one row, such as ``topic = 'trains' AND year >= 2020``.

    DuckDB has access only to the columns that the condition names: to no file and no other table. Vectors and
    16-bit floats are excluded, as too large and as a type that DuckDB does not have.

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
        self._connection.register("rows", numbered)
        query = f'SELECT "{_MASK}" FROM (SELECT *, ({self._sql}\n) AS "{_MASK}" FROM rows)'
        result: Any = self._connection.execute(query).fetchnumpy()[_MASK]
        if result.dtype != np.bool_:
            raise duckdb.BinderException(f"It returns {result.dtype}, not true or false.")
        return np.ma.filled(result, fill_value=False) if np.ma.isMaskedArray(result) else np.asarray(result)

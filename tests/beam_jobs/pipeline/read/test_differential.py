"""Documents against what DuckDB and pyarrow read from the same files."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import json as arrow_json
from pyarrow import orc

from beam_jobs.base.records import Document
from tests.support.runs.reading import read_checked
from tests.support.runs.tables import FORMATS, write_table

pytestmark = pytest.mark.slow

NUM_TABLES = 2_000 if os.environ.get("TESTS_NIGHTLY") == "yes" else 150
SCHEMA = pa.schema([("text", pa.string()), ("word", pa.string()), ("n", pa.int64()), ("x", pa.float64())])
_PIECES = [
    "a",
    "B",
    " ",
    "\t",
    "é",
    "😀",
    "עב",
    '"',
    "'",
    ",",
    ";",
    "\\",
    "\n",
    "\r\n",
    "{",
    "]",
    "#",
    "0",
    "\u2028",
]
Row = tuple[str, str | None, int | None, float | None]
Reader = Callable[[Path], list[Row]]


def word(draw: random.Random) -> str:
    return "".join(draw.choices(_PIECES, k=draw.randint(1, 12)))


def rows_of(draw: random.Random) -> list[dict[str, Any]]:
    """Rows whose texts are never empty, because readers disagree on what an empty field of CSV is."""
    rows = [
        {
            "text": f"t{word(draw)}",
            "word": draw.choice([None, f"w{word(draw)}"]),
            "n": draw.choice([None, draw.randint(-(2**40), 2**40)]),
            "x": draw.choice([None, draw.uniform(-1e9, 1e9)]),
        }
        for _ in range(draw.randint(1, 6))
    ]
    return [*rows, {"text": "last", "word": "w", "n": 1, "x": 0.5}]  # so that every type is known


def ours(path: Path) -> list[Row]:
    outcomes = read_checked(
        path,
        text_columns=("text",),
        keep_columns=("word", "n", "x"),
        column_types=(("n", "int64"), ("x", "float64")),
    )
    assert all(isinstance(outcome, Document) for outcome in outcomes), outcomes
    rows = [(one.text, *one.columns) for one in outcomes if isinstance(one, Document)]
    return [(text, one or None, n, x) for text, one, n, x in rows]


def of_table(table: pa.Table) -> list[Row]:
    columns = [table.column(name).cast(SCHEMA.field(name).type).to_pylist() for name in SCHEMA.names]
    return [(text, one or None, n, x) for text, one, n, x in zip(*columns, strict=True)]


def with_duckdb(function: str) -> Reader:
    def read(path: Path) -> list[Row]:
        found = duckdb.sql(f"SELECT text, word, n, x FROM {function.format(path=path)}").fetchall()
        return [(text, one or None, n, x) for text, one, n, x in found]

    return read


def with_arrow_csv(path: Path) -> list[Row]:
    parsing = arrow_csv.ParseOptions(newlines_in_values=True)
    conversion = arrow_csv.ConvertOptions(column_types=SCHEMA)
    return of_table(arrow_csv.read_csv(path, parse_options=parsing, convert_options=conversion))


def with_fastavro(path: Path) -> list[Row]:
    records: Any = fastavro.reader(io.BytesIO(path.read_bytes()))
    return of_table(pa.Table.from_pylist(list(records), SCHEMA))


_TYPES = "{{'text': 'VARCHAR', 'word': 'VARCHAR', 'n': 'BIGINT', 'x': 'DOUBLE'}}"
_CSV = f"read_csv('{{path}}', header=true, delim=',', quote='\"', escape='\"', columns={_TYPES}, {{how}})"
READERS: dict[str, list[Reader]] = {
    "csv": [with_arrow_csv, with_duckdb(_CSV.replace("{how}", "parallel=false, new_line='\\r\\n'"))],
    "jsonl": [
        lambda path: of_table(arrow_json.read_json(path)),
        with_duckdb(f"read_json('{{path}}', format='newline_delimited', columns={_TYPES})"),
    ],
    "json": [with_duckdb(f"read_json('{{path}}', format='array', columns={_TYPES})")],
    "parquet": [
        lambda path: of_table(pq.read_table(path)),
        with_duckdb("read_parquet('{path}')"),
    ],
    "avro": [with_fastavro],
    "orc": [lambda path: of_table(orc.read_table(path))],
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_readers_read_the_same(tmp_path: Path, name: str) -> None:
    draw, differ = random.Random(f"{name}"), []
    for number in range(NUM_TABLES):
        rows = rows_of(draw)
        path = write_table(tmp_path, rows, SCHEMA, [name])[name]
        found = ours(path)
        assert found == [tuple(row[column] for column in SCHEMA.names) for row in rows]
        differ += [(number, at) for at, read in enumerate(READERS[name]) if read(path) != found]
    assert not differ

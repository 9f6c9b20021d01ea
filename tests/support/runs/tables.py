"""The same table in every format, and what a reader makes of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

FORMATS = ("csv", "jsonl", "json", "parquet", "avro", "orc")
_AVRO = {pa.string(): "string", pa.int64(): "long", pa.float64(): "double", pa.bool_(): "boolean"}
_SPELLED = {True: "true", False: "false", None: ""}


def write_table(
    folder: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, formats: Sequence[str] = FORMATS
) -> dict[str, Path]:
    """Writes rows to ``t.FORMAT`` for every format; CSV has empty fields for nulls."""
    values = [{name: row.get(name) for name in schema.names} for row in rows]
    paths = {name: folder / f"t.{name}" for name in formats}
    for name, path in paths.items():
        _WRITERS[name](path, values, schema)
    return paths


_Rows = Sequence[Mapping[str, Any]]


def _write_parquet(path: Path, rows: _Rows, schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path, row_group_size=3)


def _write_orc(path: Path, rows: _Rows, schema: pa.Schema) -> None:
    orc.write_table(pa.Table.from_pylist(list(rows), schema), path)


def _write_jsonl(path: Path, rows: _Rows, _schema: pa.Schema) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def _write_json(path: Path, rows: _Rows, _schema: pa.Schema) -> None:
    path.write_bytes(json.dumps(list(rows), ensure_ascii=False).encode())


def _write_avro(path: Path, rows: _Rows, schema: pa.Schema) -> None:
    fields = [{"name": field.name, "type": ["null", _AVRO[field.type]]} for field in schema]
    with path.open("wb") as out:
        fastavro.writer(out, {"type": "record", "name": "row", "fields": fields}, rows, codec="deflate")


def _write_csv(path: Path, rows: _Rows, schema: pa.Schema) -> None:
    names = schema.names
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(names)
    for row in rows:
        writer.writerow([row[name] if isinstance(row[name], str) else _spelled(row[name]) for name in names])
    path.write_bytes(out.getvalue().encode())


def _spelled(value: Any) -> str:
    return _SPELLED[value] if value is None or isinstance(value, bool) else repr(value)


_WRITERS: dict[str, Callable[[Path, _Rows, pa.Schema], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "json": _write_json,
    "parquet": _write_parquet,
    "avro": _write_avro,
    "orc": _write_orc,
}

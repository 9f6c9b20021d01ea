"""Reads tables of texts and vectors: JSON Lines, CSV and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_bundle.errors import MissingExtraError, SettingsError

Row = Mapping[str, Any]


def read_rows(flag: str, path: Path) -> list[Any]:
    """Reads a table: one mapping by column name per row; in JSON Lines, any JSON value per line.

    Args:
        flag: the flag that named the file, for errors.
        path: ``.jsonl``, ``.ndjson``, ``.csv``, ``.tsv`` or ``.parquet``.

    Raises:
        SettingsError: the content does not match the file's suffix.
    """
    if path.suffix in (".jsonl", ".ndjson"):
        return [_json(flag, path, number, line) for number, line in enumerate(_lines(flag, path), 1) if line]
    if path.suffix == ".parquet":
        return _parquet(flag, path)
    rows = csv.DictReader(_lines(flag, path), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    try:
        return list(rows)
    except csv.Error as error:
        raise SettingsError(f"{flag} {path}, line {rows.line_num}: not valid CSV ({error}).") from error


def read_text(flag: str, path: Path) -> str:
    """Reads a file as UTF-8.

    Raises:
        SettingsError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{flag} {path} cannot be read as UTF-8 text: {error}") from error


def read_metadata(path: Path) -> Mapping[bytes, bytes]:
    """Returns the metadata of a Parquet file that was read before; nothing for other formats."""
    if path.suffix != ".parquet":
        return {}
    import pyarrow.parquet as pq

    return dict(pq.read_schema(path).metadata or {})


def _lines(flag: str, path: Path) -> list[str]:
    # Only a line feed ends a line: splitlines also cuts at characters that texts may contain.
    lines = read_text(flag, path).split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _json(flag: str, path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{flag} {path}, line {number}: not valid JSON ({error}).") from error


def _parquet(flag: str, path: Path) -> list[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"{flag} {path}: reading Parquet needs pyarrow. Install it: pip install pyarrow"
        ) from error
    try:
        rows: list[Any] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"{flag} {path} cannot be read as Parquet: {error}") from error
    return rows

"""Reads and checks a table of texts and labels; errors name the row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model_bundle.base.tables import read_rows
from model_bundle.errors import SettingsError
from model_bundle.training.options import DataOptions

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")
_NUM_LISTED = 5


@dataclass(frozen=True)
class Examples:
    """Rows for training or evaluation.

    ``numbers``: float32[rows, columns]. ``rows``: the row numbers in the file, from 1, without the header.
    """

    texts: list[str]
    labels: list[str]
    numbers: np.ndarray
    rows: list[int]
    path: Path

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, places: Sequence[int] | np.ndarray) -> Examples:
        """Returns the rows at these positions, in this order."""
        return Examples(
            [self.texts[i] for i in places],
            [self.labels[i] for i in places],
            self.numbers[np.asarray(places, dtype=np.int64)],
            [self.rows[i] for i in places],
            self.path,
        )


def read_examples(path: Path, options: DataOptions) -> Examples:
    """Reads a ``.tsv``, ``.csv`` or ``.jsonl`` file, each also with ``.gz``, or a ``.parquet`` file.

    Raises:
        SettingsError: it cannot be read, a column is missing, or rows lack a text, a label or a valid number;
            the message names the rows.
    """
    faults: list[str] = []
    texts, labels, numbers, rows = [], [], [], []
    for row, record in _records(path, options):
        try:
            texts.append(_text(record, options.text_column))
            labels.append(_label(record, options.label_column))
            numbers.append([_number(record, column) for column in options.numeric_columns])
            rows.append(row)
        except ValueError as error:
            faults.append(f"row {row}: {error}")
    if faults:
        more = f"\n  … and {len(faults) - _NUM_LISTED} more" if len(faults) > _NUM_LISTED else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:_NUM_LISTED])
        raise SettingsError(
            f"{path}: {len(faults)} rows cannot be used for training. Fix or remove them:{listed}{more}"
        )
    if not rows:
        raise SettingsError(f"{path} has no rows.")
    table = np.array(numbers, dtype=np.float32).reshape(len(rows), len(options.numeric_columns))
    return Examples(texts, labels, table, rows, path)


def _records(path: Path, options: DataOptions) -> Iterator[tuple[int, Mapping[str, Any]]]:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if path.suffix == ".parquet":
        yield from enumerate(read_rows("--data", path), 1)
    elif suffix in _LINES:
        yield from _json_lines(path)
    elif suffix in _DELIMITERS:
        yield from _csv_rows(path, _DELIMITERS[suffix], options)
    else:
        raise SettingsError(f"{path}: expected .tsv, .csv, .jsonl, each also with .gz, or .parquet.")


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for row, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise SettingsError(f"{path}, row {row}: not valid JSON ({error}).") from error
        if not isinstance(record, dict):
            raise SettingsError(f"{path}, row {row}: expected an object, found a {type(record).__name__}.")
        yield row, record


def _csv_rows(path: Path, delimiter: str, options: DataOptions) -> Iterator[tuple[int, Mapping[str, Any]]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if options.csv_quotes else csv.QUOTE_NONE
    lines = io.StringIO(_read(path), newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    names: Sequence[str] | None = options.column_names or None
    row = 0
    try:
        for cells in reader:
            if names is None:
                names = cells
            elif cells:
                row += 1
                if len(cells) != len(names):
                    raise SettingsError(
                        f"{path}, row {row} (line {reader.line_num}): {len(cells)} cells, expected "
                        f"{len(names)}: {', '.join(names)}. If quotes are ordinary characters, "
                        "use --no_csv_quotes."
                    )
                yield row, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise SettingsError(
            f"{path}, row {row + 1} (line {reader.line_num}): {error}. If quotes are ordinary characters, "
            "use --no_csv_quotes."
        ) from error


def _cell(record: Mapping[str, Any], column: str) -> Any:
    if column not in record:
        raise SettingsError(
            f"There is no column {column}; the columns are: {', '.join(map(str, record))}. If the file has "
            "no header row, name its columns: --column_names A,B"
        )
    return record[column]


def _text(record: Mapping[str, Any], column: str) -> str:
    value = _cell(record, column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{column} is {'blank' if value in (None, '') or isinstance(value, str) else 'not text'}"
        )
    return value


def _label(record: Mapping[str, Any], column: str) -> str:
    value = _cell(record, column)
    if value is None or isinstance(value, (float, list, dict)) or not str(value).strip():
        raise ValueError(
            f"{column} is empty" if value in (None, "") else f"{column} is {value!r}, which is not a label"
        )
    return str(value).strip()


def _number(record: Mapping[str, Any], column: str) -> float:
    value = _cell(record, column)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{column} is {value!r}, which is not a number") from error
    if not math.isfinite(number) or abs(number) > np.finfo(np.float32).max:
        raise ValueError(f"{column} is {value!r}, which is not finite")
    return number

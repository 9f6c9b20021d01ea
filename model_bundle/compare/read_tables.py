"""Reads reference vectors, labels and scores from the columns of tables, and from the files of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.tables import Row, read_metadata, read_rows
from model_bundle.compare.expected import Columns, Expected
from model_bundle.errors import SettingsError

TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
ID_COLUMNS = ("id", "doc_id", "ids")
VECTOR_COLUMNS = ("embedding", "embeddings", "vector", "vectors", "scores", "score", "logits", "features")
_LABEL_COLUMNS = ("label", "labels")
# What beam_jobs.classify writes about a file's scores, in the metadata of Parquet.
_ORDER, _THRESHOLD = b"beam_jobs.labels", b"beam_jobs.threshold"


def read_table(path: Path, columns: Columns) -> Expected:
    """Reads one table: numbers, labels or both.

    Raises:
        SettingsError: it lacks a column, or has a value of another kind; the message says what was expected.
        ValueError: a value is no number.
    """
    rows = read_rows("--expected", path)
    if not rows:
        raise SettingsError(f"--expected {path} has no rows.")
    if not all(isinstance(row, dict) for row in rows):
        return from_values(rows)
    return _from_rows(path, rows, columns, read_metadata(path))


def read_run(path: Path, columns: Columns) -> Expected:
    """Reads the Parquet files of a run: its folder, or the ``classes`` or ``embeddings`` folder in it.

    Raises:
        SettingsError: there are no such files.
    """
    folder = next((path / name for name in ("classes", "embeddings") if (path / name).is_dir()), path)
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise SettingsError(
            f"--expected {path} is a folder without Parquet files; expected a run, or its folder classes or "
            "embeddings."
        )
    rows = [row for file in files for row in read_rows("--expected", file)]
    return _from_rows(folder, rows, columns, read_metadata(files[0]))


def from_values(values: Sequence[Any]) -> Expected:
    """Reads one value per text: a list of numbers, one number, or a label.

    Whole numbers are labels by their position, as ``argmax`` returns them, or whole quantities.
    """
    if all(isinstance(value, str | bool | int) for value in values):
        return Expected(None, None, [[(_label(value),)] for value in values])
    return Expected([numbers(value) for value in values], None)


def id_column(row: Row, columns: Columns) -> str | None:
    """Returns the column of ids that a table has, if any."""
    return next((name for name in (columns.id, *ID_COLUMNS) if name in row), None)


def numbers(value: Any) -> np.ndarray:
    """Returns float64[dim] from a number, a list, or what CSV has for either.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else float(value)
    if value is None:
        raise ValueError("a row has no number")
    return np.atleast_1d(np.asarray(value, dtype=np.float64))


def _from_rows(
    path: Path, rows: Sequence[Row], columns: Columns, metadata: Mapping[bytes, bytes]
) -> Expected:
    first = rows[0] if rows else {}
    for name in (*columns.score, *filter(None, [columns.label])):
        if name not in first:
            raise SettingsError(
                f"--expected {path} has no column {name!r}; it has {', '.join(map(str, first))}."
            )
    named = id_column(first, columns)
    ids = None if named is None else [str(row[named]) for row in rows]
    order = tuple(json.loads(metadata[_ORDER])) if _ORDER in metadata else None
    scores = _scores(rows, columns, order)
    labels = _labels(rows, columns)
    if scores is None and labels is None:
        raise SettingsError(
            f"--expected {path}: expected a column named {', '.join((*VECTOR_COLUMNS, *_LABEL_COLUMNS))}, or "
            f"--score_column or --label_column; it has {', '.join(map(str, first)) or 'no rows'}."
        )
    if len(columns.score) > 1:
        order = columns.score
    is_partial = order is not None and not columns.score and "top_scores" in first
    threshold = metadata.get(_THRESHOLD, b"none")
    if "word_index" in first and ids is not None:
        scores, labels, ids = _joined_words(rows, ids, scores, labels)
    return Expected(
        scores, ids, labels, order, is_partial, None if threshold == b"none" else float(threshold)
    )


def _scores(rows: Sequence[Row], columns: Columns, order: tuple[str, ...] | None) -> list[np.ndarray] | None:
    if columns.score:
        return [np.concatenate([numbers(row[name]) for name in columns.score]) for row in rows]
    if columns.label is not None:
        return None
    if order is not None and "top_scores" in rows[0]:
        return [_top_scores(row, order) for row in rows]
    named = next((name for name in VECTOR_COLUMNS if name in rows[0]), None)
    return None if named is None else [numbers(row[named]) for row in rows]


def _top_scores(row: Row, order: tuple[str, ...]) -> np.ndarray:
    """Returns float64[labels] with the scores of the best labels, and NaN for the others."""
    found = dict(zip(row["top_labels"], row["top_scores"], strict=True))
    return np.array([found.get(name, np.nan) for name in order])


def _labels(rows: Sequence[Row], columns: Columns) -> list[list[tuple[str, ...]]] | None:
    named = columns.label
    if named is None:
        if columns.score:
            return None
        named = next((name for name in _LABEL_COLUMNS if name in rows[0]), None)
    if named is None:
        return None
    values = [row[named] for row in rows]
    if any(value is None for value in values):
        raise SettingsError(f"--expected: row {values.index(None)} has no value in the column {named!r}.")
    return [[tuple(map(_label, value)) if isinstance(value, list) else (_label(value),)] for value in values]


def _label(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(int(value)) if isinstance(value, bool) else str(value)


_Words = tuple[list[np.ndarray] | None, list[list[tuple[str, ...]]] | None, list[str]]


def _joined_words(
    rows: Sequence[Row],
    ids: Sequence[str],
    vectors: Sequence[np.ndarray] | None,
    labels: Sequence[list[tuple[str, ...]]] | None,
) -> _Words:
    """Joins rows of words, as a job writes them, to one item per text."""
    words: dict[str, list[tuple[int, int]]] = {}
    for position, (row, name) in enumerate(zip(rows, ids, strict=True)):
        words.setdefault(name, []).append((row["word_index"], position))
    places = [[position for _, position in sorted(found)] for found in words.values()]
    joined = None if vectors is None else [np.stack([vectors[at] for at in text]) for text in places]
    named = None if labels is None else [[labels[at][0] for at in text] for text in places]
    return joined, named, list(words)

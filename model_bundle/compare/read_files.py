"""Reads texts and their reference vectors from common file formats, and pairs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.tables import read_rows, read_text
from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.base.untrusted.zips import read_npz
from model_bundle.errors import SettingsError

_TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_ID_COLUMNS = ("id", "doc_id", "ids")
_VECTOR_COLUMNS = ("embedding", "embeddings", "vector", "vectors", "scores", "logits", "features")
# Written by AllenNLP's elmo command: the input line of each array.
_ALLENNLP_INDEX = "sentence_to_index"


@dataclass(frozen=True)
class Texts:
    """Texts in order; ``ids`` is None if they have none. ``columns``: all columns of their table."""

    texts: list[str]
    ids: list[str] | None
    columns: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ExpectedVectors:
    """Reference vectors: float[dim] or float[words, dim] per text. ``ids`` is None if they are ordered."""

    vectors: list[np.ndarray]
    ids: list[str] | None


def read_texts(path: Path) -> Texts:
    """Reads texts: one per line in ``.txt``; the columns ``text`` and, if present, ``id`` of a table.

    Raises:
        SettingsError: the file has another form; the message says what was expected.
    """
    if path.suffix not in _TABLES:
        lines = read_text("--texts", path).split("\n")
        return Texts([line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)], None)
    rows = read_rows("--texts", path)
    if all(isinstance(row, str) for row in rows):
        return Texts(rows, None)
    if not all(isinstance(row, dict) and isinstance(row.get("text"), str) for row in rows):
        raise SettingsError(f'--texts {path}: expected a column "text" of strings in every row.')
    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    return Texts([row["text"] for row in rows], _ids_of(rows), columns)


def read_expected_vectors(path: Path, layer: int | None = None) -> ExpectedVectors:
    """Reads reference vectors.

    ``.npy``: an array of rows. ``.npz``: one array, or several with ``ids``. ``.hdf5``, ``.h5``: one array of
    rows, or one per text, by its number or id, as AllenNLP's ``elmo`` command writes them.
    ``.jsonl``: lists, or objects with ``embedding`` and ``id``. ``.parquet``: the same columns.

    Args:
        path: the file.
        layer: the layer to take from arrays [layers, words, dim].

    Raises:
        SettingsError: the file has another form; the message says what was expected.
    """
    try:
        found = _read(path)
        return ExpectedVectors([_checked(array, layer, path) for array in found.vectors], found.ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"--expected {path} cannot be read as vectors: {error}") from error


def _read(path: Path) -> ExpectedVectors:
    if path.suffix == ".npy":
        return ExpectedVectors(list(np.load(path, allow_pickle=False)), None)
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix in (".hdf5", ".h5"):
        return _hdf5(path)
    if path.suffix in (".jsonl", ".ndjson", ".parquet"):
        return _table(path)
    raise SettingsError(f"--expected {path}: expected .npz, .npy, .hdf5, .h5, .parquet or .jsonl.")


def _npz(path: Path) -> ExpectedVectors:
    arrays = read_npz(path)
    named = next((arrays.pop(name) for name in _ID_COLUMNS if name in arrays), None)
    ids = None if named is None else [_text(item) for item in named]
    chosen = next((name for name in _VECTOR_COLUMNS if name in arrays), None)
    if chosen is None and len(arrays) == 1:
        chosen = next(iter(arrays))
    if chosen is not None:
        return ExpectedVectors(list(arrays[chosen]), ids)
    return _numbered(arrays)


def _hdf5(path: Path) -> ExpectedVectors:
    import h5py

    with open_hdf5(path) as stored:
        arrays = {name: np.asarray(item) for name, item in stored.items() if isinstance(item, h5py.Dataset)}
    arrays.pop(_ALLENNLP_INDEX, None)
    named = next((arrays.pop(name) for name in _ID_COLUMNS if name in arrays), None)
    if len(arrays) == 1 and (named is not None or "0" not in arrays):
        ids = None if named is None else [_text(item) for item in named]
        return ExpectedVectors(list(next(iter(arrays.values()))), ids)
    return _numbered(arrays)


def _numbered(arrays: dict[str, np.ndarray]) -> ExpectedVectors:
    """Returns one array per text: by number, in order, or by id."""
    if not arrays:
        raise SettingsError("no arrays were found in it")
    if sorted(arrays) == sorted(map(str, range(len(arrays)))):
        return ExpectedVectors([arrays[str(index)] for index in range(len(arrays))], None)
    return ExpectedVectors(list(arrays.values()), list(arrays))


def _table(path: Path) -> ExpectedVectors:
    rows = read_rows("--expected", path)
    if not all(isinstance(row, dict) for row in rows):
        return ExpectedVectors([np.asarray(row, dtype=np.float64) for row in rows], None)
    column = next((name for name in _VECTOR_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise SettingsError(
            f"--expected {path}: expected a column of vectors named {', '.join(_VECTOR_COLUMNS)}; it has "
            f"{', '.join(rows[0]) if rows else 'no rows'}."
        )
    ids = _ids_of(rows)
    if rows and "word_index" in rows[0] and ids is not None:
        return _joined_words(rows, ids, column)
    return ExpectedVectors([np.asarray(row[column], dtype=np.float64) for row in rows], ids)


def _joined_words(rows: Sequence[dict[str, Any]], ids: list[str], column: str) -> ExpectedVectors:
    """Joins rows of words, as a job writes them, to one array per text."""
    words: dict[str, list[tuple[int, Any]]] = {}
    for row, name in zip(rows, ids, strict=True):
        words.setdefault(name, []).append((row["word_index"], row[column]))
    arrays = [np.asarray([vector for _, vector in sorted(found)]) for found in words.values()]
    return ExpectedVectors(arrays, list(words))


def _ids_of(rows: Sequence[dict[str, Any]]) -> list[str] | None:
    column = next((name for name in _ID_COLUMNS if rows and name in rows[0]), None)
    return None if column is None else [str(row[column]) for row in rows]


def _checked(array: np.ndarray, layer: int | None, path: Path) -> np.ndarray:
    if array.ndim == 3 and layer is not None:
        array = array[layer]
    if array.ndim == 3:
        raise SettingsError(
            f"--expected {path} has arrays [layers, words, dim] {list(array.shape)}; choose a layer with "
            f"--expected_layer 0 to {len(array) - 1}."
        )
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise SettingsError(f"--expected {path}: a text has {array.dtype} {list(array.shape)}, not a vector.")
    return np.asarray(array, dtype=np.float64)


def _text(item: Any) -> str:
    return item.decode("utf-8") if isinstance(item, bytes) else str(item)


def align(texts: Texts, old: ExpectedVectors) -> tuple[list[str], list[str], list[np.ndarray]]:
    """Pairs texts with their vectors, by id where both have ids, else by order.

    Returns:
        The texts, a name for each, and their vectors.

    Raises:
        SettingsError: they do not pair up; the message names what is left over.
    """
    if texts.ids is None or old.ids is None:
        if len(texts.texts) != len(old.vectors):
            raise SettingsError(
                f"There are {len(texts.texts)} texts and {len(old.vectors)} vectors, and not both have ids: "
                "without ids they must be equally many and in the same order."
            )
        return texts.texts, texts.ids or [str(n) for n in range(len(texts.texts))], old.vectors
    for what, ids in (("texts", texts.ids), ("expected", old.ids)):
        repeated = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
        if repeated:
            raise SettingsError(
                f"--{what}: the ids {_some(repeated)} occur more than once; they must be unique."
            )
    by_id = dict(zip(old.ids, old.vectors, strict=True))
    lost = [name for name in texts.ids if name not in by_id] + sorted(by_id.keys() - set(texts.ids))
    if lost:
        raise SettingsError(f"The ids {_some(lost)} are in one of --texts and --expected only.")
    return texts.texts, texts.ids, [by_id[name] for name in texts.ids]


def _some(names: Sequence[str]) -> str:
    return json.dumps(list(names[:5]), ensure_ascii=False) + (
        f" and {len(names) - 5} more" * (len(names) > 5)
    )

"""Reads texts and their reference vectors from common file formats, and pairs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.tables import read_rows, read_text
from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.base.untrusted.zips import read_npz
from model_bundle.compare.expected import Columns, Expected, Texts
from model_bundle.compare.read_tables import (
    ID_COLUMNS,
    TABLES,
    VECTOR_COLUMNS,
    from_values,
    id_column,
    read_run,
    read_table,
)
from model_bundle.errors import SettingsError

# Written by AllenNLP's elmo command: the input line of each array.
_ALLENNLP_INDEX = "sentence_to_index"
_USUAL = Columns()


def read_texts(path: Path, columns: Columns = _USUAL) -> Texts:
    """Reads texts: one per line in ``.txt``; the columns of texts and, if present, ids of a table.

    Raises:
        SettingsError: the file has another form; the message says what was expected.
    """
    if path.suffix not in TABLES:
        if columns != _USUAL and columns.text != _USUAL.text:
            raise SettingsError(f"--texts {path}: --text_column needs a table: {', '.join(TABLES)}.")
        lines = read_text("--texts", path).split("\n")
        return Texts([line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)], None)
    rows = read_rows("--texts", path)
    if all(isinstance(row, str) for row in rows):
        return Texts(rows, None)
    if not all(isinstance(row, dict) and isinstance(row.get(columns.text), str) for row in rows):
        raise SettingsError(
            f'--texts {path}: expected a column "{columns.text}" of strings in every row. Name another with '
            "--text_column."
        )
    if columns.id is not None and columns.id not in rows[0]:
        raise SettingsError(
            f"--texts {path} has no column {columns.id!r}; it has {', '.join(map(str, rows[0]))}."
        )
    named = id_column(rows[0], columns)
    ids = None if named is None else [str(row[named]) for row in rows]
    table = {name: [row.get(name) for row in rows] for name in rows[0]}
    return Texts([row[columns.text] for row in rows], ids, table)


def read_expected(path: Path, layer: int | None = None, columns: Columns = _USUAL) -> Expected:
    """Reads reference vectors, scores or labels.

    ``.npy``: an array of rows, numbers or labels. ``.npz``: one array, or several with ``ids``. ``.hdf5``,
    ``.h5``: one array of rows, or one per text, by its number or id, as AllenNLP's ``elmo`` command writes
    them. ``.jsonl``: lists, numbers or labels, or objects with ``embedding`` and ``id``. ``.parquet``,
    ``.csv``, ``.tsv``: the same columns. A folder: the Parquet files of a run.

    Args:
        path: the file or folder.
        layer: the layer to take from arrays [layers, words, dim].
        columns: of a table.

    Raises:
        SettingsError: the file has another form; the message says what was expected.
    """
    try:
        found = _read(path, columns)
        if found.vectors is None:
            return found
        return replace(found, vectors=[_checked(array, layer, path) for array in found.vectors])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"--expected {path} cannot be read as vectors or scores: {error}") from error


def _read(path: Path, columns: Columns) -> Expected:
    if path.is_dir():
        return read_run(path, columns)
    if path.suffix in TABLES:
        return read_table(path, columns)
    if columns.score or columns.label is not None:
        raise SettingsError(
            f"--expected {path}: --score_column and --label_column need a table: {', '.join(TABLES)}."
        )
    if path.suffix == ".npy":
        return _rows(np.load(path, allow_pickle=False))
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix in (".hdf5", ".h5"):
        return _hdf5(path)
    raise SettingsError(
        f"--expected {path}: expected .npz, .npy, .hdf5, .h5, .parquet, .jsonl, .csv or .tsv, or a run's "
        "folder."
    )


def _rows(array: np.ndarray, ids: list[str] | None = None) -> Expected:
    """Reads one array of all texts: vectors, one number each, or labels."""
    if array.ndim == 0:
        raise SettingsError("it has a single value; expected one per text")
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "biuUSO":
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "biuUSO":
        return replace(from_values([_value(item) for item in array]), ids=ids)
    return Expected(list(array), ids)


def _value(item: Any) -> Any:
    return item.decode("utf-8") if isinstance(item, bytes) else item.item() if hasattr(item, "item") else item


def _npz(path: Path) -> Expected:
    arrays = read_npz(path)
    named = next((arrays.pop(name) for name in ID_COLUMNS if name in arrays), None)
    ids = None if named is None else [_text(item) for item in named]
    chosen = next((name for name in VECTOR_COLUMNS if name in arrays), None)
    if chosen is None and len(arrays) == 1:
        chosen = next(iter(arrays))
    if chosen is not None:
        return _rows(arrays[chosen], ids)
    return _numbered(arrays)


def _hdf5(path: Path) -> Expected:
    import h5py

    with open_hdf5(path) as stored:
        arrays = {name: np.asarray(item) for name, item in stored.items() if isinstance(item, h5py.Dataset)}
    arrays.pop(_ALLENNLP_INDEX, None)
    named = next((arrays.pop(name) for name in ID_COLUMNS if name in arrays), None)
    if len(arrays) == 1 and (named is not None or "0" not in arrays):
        ids = None if named is None else [_text(item) for item in named]
        return _rows(next(iter(arrays.values())), ids)
    return _numbered(arrays)


def _numbered(arrays: dict[str, np.ndarray]) -> Expected:
    """Returns one array per text: by number, in order, or by id."""
    if not arrays:
        raise SettingsError("no arrays were found in it")
    if sorted(arrays) == sorted(map(str, range(len(arrays)))):
        return Expected([arrays[str(index)] for index in range(len(arrays))], None)
    return Expected(list(arrays.values()), list(arrays))


def _checked(array: np.ndarray, layer: int | None, path: Path) -> np.ndarray:
    if array.ndim == 3 and layer is not None:
        array = array[layer]
    if array.ndim == 0:
        array = array[np.newaxis]
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

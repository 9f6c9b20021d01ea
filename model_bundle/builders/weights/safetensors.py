"""Weights from one or several safetensors files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path, PurePath

import numpy as np

from model_bundle.builders.source_folder import read_json
from model_bundle.builders.weights.stored import StoredWeights, as_float32
from model_bundle.errors import SourceError


def open_safetensors(path: Path) -> StoredWeights:
    """Opens one file.

    Raises:
        SourceError: it is not a safetensors file, or is truncated.
    """
    return StoredWeights(_shapes(path), lambda name: _read(path, name), (path,), "safetensors")


def open_shards(index: Path) -> StoredWeights:
    """Opens the files that an index lists. Weights in a file that are not in the index count too.

    Raises:
        SourceError: the index lists files outside its folder, a file is missing, or lacks a weight.
    """
    names = _listed_files(index)
    absent = [name for name in sorted(set(names.values())) if not (index.parent / name).is_file()]
    if absent:
        raise SourceError(f"{index} lists files that do not exist: {', '.join(absent)}. Download them.")
    files = tuple(index.parent / name for name in sorted(set(names.values())))
    holders: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        found = _shapes(path)
        shapes |= found
        holders |= dict.fromkeys(found, path)
    lost = sorted(name for name, file in names.items() if holders.get(name) != index.parent / file)
    if lost:
        raise SourceError(f"{index} lists weights that are not in their files: {', '.join(lost)}.")
    return StoredWeights(shapes, lambda name: _read(holders[name], name), files, "safetensors")


def _listed_files(index: Path) -> dict[str, str]:
    """Returns file name by weight name; rejects files outside the folder of the index."""
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise SourceError(f"{index} has no weight_map; download or export the model again.")
    outside = sorted({str(file) for file in names.values() if PurePath(str(file)).name != file})
    if outside:
        raise SourceError(f"{index} points outside its folder: {', '.join(outside)}.")
    return names


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as stored:
            names = stored.keys()
            return {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{path} is not a complete safetensors file ({error}). Download it again."
        ) from error


def _read(path: Path, name: str) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    import_module("ml_dtypes")  # registers bfloat16 with numpy, which safetensors needs
    try:
        with safe_open(path, "numpy") as stored:
            array = stored.get_tensor(name)
    except (SafetensorError, OSError, TypeError) as error:
        raise SourceError(f"{path}: {name} cannot be read ({error}).") from error
    return as_float32(name, array, path)

"""Weights from a safetensors file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np

from model_bundle.builders.weights.stored import StoredWeights, as_float32
from model_bundle.errors import SourceError


def open_safetensors(path: Path) -> StoredWeights:
    """Opens one file.

    Raises:
        SourceError: it is not a safetensors file, or is truncated.
    """
    return StoredWeights(_shapes(path), lambda name: _read(path, name), (path,), "safetensors")


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

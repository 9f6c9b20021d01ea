"""Weights from ``tf_model.h5``, the format of transformers' TensorFlow models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.builders.weights.stored import StoredWeights, as_float32
from model_bundle.errors import SourceError


def open_h5(path: Path) -> StoredWeights:
    """Opens a file; a weight's name is its path in the file, beginning with the layer.

    Raises:
        SourceError: it is not an HDF5 file, or is truncated.
    """
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = tuple(item.shape)

    try:
        with open_hdf5(path) as stored:
            stored.visititems(note)
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceError(f"{path} is not a complete HDF5 file ({error}). Download it again.") from error
    return StoredWeights(shapes, lambda name: _read(path, name), (path,), "HDF5")


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with open_hdf5(path) as stored:
            array = np.asarray(stored[name])
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceError(f"{path}: {name} cannot be read ({error}).") from error
    return as_float32(name, array, path)


def open_attributes(path: Path) -> dict[str, object]:
    """Reads the attributes of a file's root, where Keras stores a model's configuration.

    Raises:
        SourceError: it is not an HDF5 file, or is truncated.
    """
    try:
        with open_hdf5(path) as stored:
            return dict(stored.attrs)
    except (OSError, RuntimeError, KeyError) as error:
        raise SourceError(f"{path} is not a complete HDF5 file ({error}). Copy it again.") from error

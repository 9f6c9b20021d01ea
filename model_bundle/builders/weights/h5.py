"""Weights from ``tf_model.h5``, the format of transformers' TensorFlow models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.builders.weights.stored import StoredWeights, as_float32


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

    with open_hdf5(path) as stored:
        stored.visititems(note)
    return StoredWeights(shapes, lambda name: _read(path, name), (path,), "HDF5")


def _read(path: Path, name: str) -> np.ndarray:
    with open_hdf5(path) as stored:
        array = np.asarray(stored[name])
    return as_float32(name, array, path)


def open_attributes(path: Path) -> dict[str, object]:
    """Reads the attributes of a file's root, where Keras stores a model's configuration.

    Raises:
        SourceError: it is not an HDF5 file, or is truncated.
    """
    with open_hdf5(path) as stored:
        return dict(stored.attrs)

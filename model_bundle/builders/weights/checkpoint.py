"""Weights from a TensorFlow 1 checkpoint, the format in which Google published BERT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_bundle.base.system_errors import first_line
from model_bundle.builders.weights.stored import StoredWeights, as_float32
from model_bundle.errors import SourceError

_USUAL = "bert_model.ckpt"


def find_checkpoint(root: Path) -> Path | None:
    """Returns the prefix of a folder's checkpoint; None if it has none.

    Raises:
        SourceError: there are several, none with the usual name.
    """
    prefixes = sorted(path.with_suffix("") for path in root.glob("*.index") if path.is_file())
    usual = [prefix for prefix in prefixes if prefix.name == _USUAL]
    if len(prefixes) > 1 and not usual:
        names = ", ".join(prefix.name for prefix in prefixes)
        raise SourceError(f"{root} contains several checkpoints: {names}. Keep one, or name it {_USUAL}.")
    return next(iter(usual or prefixes), None)


def open_checkpoint(prefix: Path) -> StoredWeights:
    """Opens a checkpoint by its prefix.

    Raises:
        SourceError: some of its files are missing or damaged.
    """
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    # The reader turns some statuses into built-in errors: a truncated file into IndexError.
    failures = (tf.errors.OpError, ValueError, LookupError, RuntimeError)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    except failures as error:
        raise SourceError(
            f"{prefix} cannot be read ({first_line(error)}). Copy all its files again."
        ) from error

    def read(name: str) -> np.ndarray:
        try:
            array = np.asarray(reader.get_tensor(name))
        except failures as error:
            raise SourceError(f"{prefix}: {name} cannot be read ({first_line(error)}).") from error
        return as_float32(name, array, prefix)

    files = sorted(prefix.parent.glob(f"{prefix.name}.index")) + sorted(
        prefix.parent.glob(f"{prefix.name}.data-*")
    )
    return StoredWeights(shapes, read, tuple(files), "TensorFlow checkpoint")

"""Finds out whether a graph computes the same on constants: TensorFlow fuses some spellings inexactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_bundle.builders.batch_probe import largest_difference
from model_bundle.runtime.freeze.freeze import CannotFreezeError, freeze

# Sums in another order differ by less. The remapper's layer norm with its own epsilon differs by up to 1e-3.
_SAME = 5e-6


def constants_fault(concrete: Any, arrays: Mapping[str, np.ndarray]) -> str | None:
    """Runs a function on constants and on variables.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.
        arrays: a batch by the names of inputs.

    Returns:
        Why weights should stay variables; None where constants give the same.
    """
    import tensorflow as tf

    specs = concrete.structured_input_signature[1]
    tensors = {name: tf.constant(array, dtype=specs[name].dtype) for name, array in arrays.items()}
    expected = {name: value.numpy() for name, value in concrete(**tensors).items()}
    try:
        found = {name: value.numpy() for name, value in freeze(concrete).call(tensors).items()}
    except (CannotFreezeError, tf.errors.OpError, ValueError, TypeError) as error:
        return f"constants do not work here: {str(error).strip().splitlines()[0]}"
    difference = largest_difference(found, expected)
    if difference <= _SAME:
        return None
    return f"on constants TensorFlow computes it otherwise, off by {difference:.1g} of its size"

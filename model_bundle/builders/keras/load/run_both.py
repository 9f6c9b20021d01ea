"""Runs a Keras model and the graph exported from it on the same generated inputs, in the loading process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from model_bundle.errors import SourceError

# Sizes of the axes that a model leaves open: texts, then tokens or columns.
_ROWS, _COLUMNS = 3, 4
_WORDS = (b"The cat sat", b"good", b"A dog, 7 cats")
# Largest difference relative to the largest value; the same operations, in eager mode and as one graph.
_DIFFERENT = 1e-3


def compare_with_keras(
    model: Any, specs: Mapping[str, Any], call: Callable[[Mapping[str, Any]], Any], exported: Any
) -> str:
    """Compares the exported graph with the Keras model it comes from, on generated inputs.

    Args:
        model: the loaded Keras model.
        specs: TensorSpecs of its inputs by name.
        call: calls it with tensors by input name.
        exported: a concrete function with the same inputs; returns tensors by output name.

    Returns:
        What the results were compared with, or why they could not be, for the manifest.

    Raises:
        SourceError: the results differ.
    """
    import tensorflow as tf

    replaced = sorted(
        type(layer).replaces for layer in getattr(model, "layers", ()) if hasattr(layer, "assign_stored")
    )
    if replaced:
        return (
            f"nothing: {', '.join(dict.fromkeys(replaced))} of transformers cannot run here. Hold the bundle "
            "to results of the stack that made the file: --texts, --expected"
        )
    inputs = {name: tf.constant(generated(spec), dtype=spec.dtype) for name, spec in specs.items()}
    try:
        first, second = _flat(call(inputs)), _flat(call(inputs))
    # The model's own code may raise anything on inputs that it was not made for.
    except Exception as error:
        return f"nothing: the model fails on generated inputs ({type(error).__name__})"
    # In the loading process, this name is the Keras that ``tf.keras`` is.
    stack = f"Keras {import_module('keras').__version__} on generated inputs"
    if _difference(first, second) > _DIFFERENT:
        return f"nothing: under {stack}, results differ from call to call"
    found = _flat(exported(**inputs))
    difference = _difference(first, found)
    if difference > _DIFFERENT:
        raise SourceError(
            f"The exported graph differs from the Keras model by {difference:.1g} of its results' size on "
            "generated inputs; expected none. Build from a SavedModel of the same model: model.save(DIR)."
        )
    return stack


def generated(spec: Any) -> np.ndarray:
    """Returns example values for a TensorSpec; ids are 0 or 1, which every vocabulary and mask has."""
    sizes = spec.shape.as_list() if spec.shape.rank is not None else [None]
    open_axes = [_ROWS, *[_COLUMNS] * max(len(sizes) - 1, 0)][: len(sizes)]
    shape = [open_axes[axis] if size is None else size for axis, size in enumerate(sizes)]
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    if spec.dtype.name == "string":
        return np.array(_WORDS, dtype=object)[numbers % len(_WORDS)]
    if spec.dtype.is_floating:
        return np.asarray(np.sin(numbers), dtype=np.float32)
    # Period 3, so that rows of even length differ.
    return np.asarray(numbers % 3 > 0, dtype=np.int32)


def _flat(outputs: Any) -> list[np.ndarray]:
    import tensorflow as tf

    return [np.asarray(value, dtype=np.float64) for value in tf.nest.flatten(outputs)]


def _difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Returns the largest difference relative to the largest value; NaN in both at one place is none."""
    pairs = list(zip(one, other, strict=True))
    size = max((float(np.nanmax(np.abs(a), initial=0.0)) for a, _ in pairs), default=0.0) or 1.0
    if any(a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any() for a, b in pairs):
        return float("inf")
    return max((float(np.nanmax(np.abs(a - b), initial=0.0)) for a, b in pairs), default=0.0) / size

"""What a function of a loaded SavedModel needs: a Keras model brings its optimizer and metrics along."""

from __future__ import annotations

from typing import Any


def needed_parts(loaded: Any, signature: Any) -> list[Any]:
    """Returns the objects to save with a function.

    Args:
        loaded: what ``tf.saved_model.load`` gave.
        signature: a concrete function made of one of its functions.

    Returns:
        The variables it reads; all of ``loaded`` where it needs more than variables (tables, files), or where
        the model is TensorFlow 1's, whose parts are not told apart.
    """
    import tensorflow as tf

    needed = [id(capture) for capture in signature.captured_inputs]
    variables = {
        id(part.handle): part
        for part in tf.train.TrackableView(loaded).descendants()
        if isinstance(part, tf.Variable)
    }
    # In the order of the graph, so that equal models have equal bytes.
    resources = {id(capture) for capture in signature.captured_inputs if capture.dtype == tf.resource}
    if resources - variables.keys() or len(set(needed)) > len(resources):
        return [loaded]
    return [variables[key] for key in dict.fromkeys(needed)]

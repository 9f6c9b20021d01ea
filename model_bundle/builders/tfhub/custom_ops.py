"""Which operations a SavedModel uses that TensorFlow alone does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from model_bundle.bundle.graph_scan.allowed_operations import is_text_op
from model_bundle.errors import SourceError
from model_bundle.runtime.saved_model import import_custom_ops
from model_bundle.runtime.tensorflow_setup import import_tensorflow

CustomOps = tuple[Literal["tensorflow_text"], ...]
_NUM_LISTED = 8


def register_ops(saved_model: Any, needed_by: str) -> CustomOps:
    """Imports what registers the operations of a SavedModel; without them it does not load.

    Args:
        saved_model: the message in ``saved_model.pb``.
        needed_by: what to call the model in an error.

    Returns:
        The packages that were needed, for ``BundleManifest.custom_ops``.

    Raises:
        SourceError: neither TensorFlow nor a known package has an operation.
        MissingExtraError: such a package is not installed.
    """
    import_tensorflow()
    from tensorflow.python.framework import op_def_registry

    used = set(_operations(saved_model))
    packages: CustomOps = ("tensorflow_text",) if any(map(is_text_op, used)) else ()
    import_custom_ops(packages, needed_by)
    unknown = sorted(op for op in used if op_def_registry.get(op) is None)
    if unknown:
        listed = ", ".join(unknown[:_NUM_LISTED]) + (", …" if len(unknown) > _NUM_LISTED else "")
        raise SourceError(
            f"{needed_by} uses {len(unknown)} operations that neither TensorFlow nor tensorflow_text has: "
            f"{listed}. They come from a library of its own, which cannot travel in a bundle; ask for an "
            "export without them."
        )
    return packages


def _operations(saved_model: Any) -> Iterator[str]:
    """Names every operation of every graph, nested functions included; calls of functions are none."""
    for graph in saved_model.meta_graphs:
        library = graph.graph_def.library.function
        functions = {function.signature.name for function in library}
        nodes = [node for function in library for node in function.node_def]
        yield from {node.op for node in [*graph.graph_def.node, *nodes]} - functions

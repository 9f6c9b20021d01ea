"""Recognises the activation behind a product by what it computes, since each library writes it otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_bundle.quantize.saved_model.graph import ModelGraph
from model_bundle.quantize.saved_model.replay import tensor_name
from model_bundle.runtime.freeze.weights import base_name

# GELU alone is written in half a dozen ways, with at most a dozen operations.
_MAX_NODES = 16
_ELEMENTWISE = (
    *("Add", "AddV2", "Cast", "Erf", "Erfc", "Identity", "Maximum", "Mul", "Neg", "Pow", "RealDiv", "Relu"),
    *("Square", "Sub", "Tanh"),
)
# The two forms of GELU differ by 5e-4.
_TOLERANCE = 5e-5
_GRID = np.linspace(-12, 12, 4001, dtype=np.float32)


def find_activations(graph: ModelGraph, tensors: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Finds the activation that each tensor goes through and nothing else does.

    Returns:
        By tensor: its name in oneDNN, and the tensor of the activation's result. Tensors without one, or with
        one that oneDNN does not fuse, are left out.
    """
    import tensorflow as tf

    ends = {tensor: _ends(graph, tensor) for tensor in tensors}

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def compute() -> dict[str, list[Any]]:
        replay = graph.replay({}, in_order=False)
        grid = tf.constant(_GRID)
        for tensor in tensors:
            replay.set(tensor, grid)
        return {tensor: [replay.tensor(end) for end in found] for tensor, found in ends.items()}

    known = {
        "GeluExact": tf.nn.gelu(_GRID).numpy(),
        "GeluApproximate": tf.nn.gelu(_GRID, approximate=True).numpy(),
        "Relu": np.maximum(_GRID, 0),
    }
    found = {}
    for tensor, values in compute.get_concrete_function()().items():
        for end, value in zip(ends[tensor], values, strict=True):
            for name, expected in known.items():
                flat = value.numpy().reshape(-1)
                if flat.shape == expected.shape and np.abs(flat - expected).max() < _TOLERANCE:
                    found[tensor] = name, end
    return found


def _ends(graph: ModelGraph, tensor: str) -> list[str]:
    """Returns where a function of this tensor alone, and of single numbers, may end.

    That is where nothing but the last node's result is used elsewhere.
    """
    region: dict[str, Any] = {}
    inside = {tensor: None}  # in the order of the graph
    is_growing = True
    while is_growing and len(region) < _MAX_NODES:
        is_growing = False
        for node in [node for each in tuple(inside) for node in graph.readers(each)]:
            if node.name not in region and _is_function_of(graph, node, inside):
                region[node.name] = node
                inside[f"{node.name}:0"] = None
                is_growing = True
    return [f"{name}:0" for name in region if _is_end(graph, tensor, name, region)]


def _is_function_of(graph: ModelGraph, node: Any, inside: Mapping[str, None]) -> bool:
    if node.op not in _ELEMENTWISE:
        return False
    sources = [tensor_name(source) for source in node.input if not source.startswith("^")]
    return all(source in inside or _is_number(graph, source) for source in sources)


def _is_number(graph: ModelGraph, tensor: str) -> bool:
    """Whether a tensor is one constant number."""
    return graph.is_constant(tensor) and graph.value(tensor).size == 1


def _is_end(graph: ModelGraph, tensor: str, end: str, region: dict[str, Any]) -> bool:
    needed: set[str] = set()
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name in region and name not in needed:
            needed.add(name)
            waiting += [base_name(source) for source in region[name].input]
    inner = [tensor, *(f"{name}:0" for name in needed if name != end)]
    if any(graph.is_output(each) for each in inner):
        return False
    return all(node.name in needed for each in inner for node in graph.readers(each))

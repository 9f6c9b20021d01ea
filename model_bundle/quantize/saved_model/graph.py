"""A function as nodes: who reads which tensor, and which tensors are computed from weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from model_bundle.quantize.saved_model.replay import Replay, in_order, tensor_name
from model_bundle.runtime.freeze.weights import Weights, base_name

# What changes no values and not the order in which they are stored.
_PASSING = ("Reshape", "Identity", "Transpose")


class ModelGraph:
    """The inlined graph of a function, its weights left as variables.

    ``nodes``: by name. ``order``: after their inputs. ``inputs``: name of the tensor of each input.
    ``outputs``: name of the tensor of each output.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.
    """

    def __init__(self, concrete: Any) -> None:
        self._weights = Weights(concrete)
        graph_def = self._weights.graph_def
        self.nodes: dict[str, Any] = {node.name: node for node in graph_def.node}
        self.order = in_order(graph_def.node)
        captured = {inner.op.name for _, inner in concrete.graph.captures}
        self.inputs = {t.op.name: t.name for t in concrete.inputs if t.op.name not in captured}
        self.outputs: dict[str, str] = dict(self._weights.targets)
        self._constant = self._find_constant()
        self._drop_orders()
        self._small: dict[str, np.ndarray] = {}
        self._readers: dict[str, list[Any]] = {}
        for node in self.order:
            for source in node.input:
                if not source.startswith("^"):
                    self._readers.setdefault(tensor_name(source), []).append(node)

    def readers(self, tensor: str) -> list[Any]:
        """Returns the nodes that take a tensor, one per input."""
        return self._readers.get(tensor, [])

    def is_output(self, tensor: str) -> bool:
        """Whether the function returns a tensor."""
        return tensor in self.outputs.values()

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is computed from weights and constants alone."""
        return base_name(tensor) in self._constant

    def replay(self, inputs: Mapping[str, Any], *, in_order: bool = True) -> Replay:
        """Starts to build the graph again in the function that is being traced.

        Args:
            inputs: tensors by input name; those that are not needed may be left out.
            in_order: see ``Replay``.
        """
        import tensorflow as tf

        def reader(variable: Any, dtype: Any) -> Callable[[], Any]:
            return lambda: tf.cast(variable.read_value(), dtype)

        def capture(outer: Any) -> Callable[[], Any]:
            return lambda: tf.compat.v1.get_default_graph().capture(outer)

        leaves = {f"{name}:0": reader(*pair) for name, pair in self._weights.constants.items()}
        leaves |= {f"{name}:0": capture(outer) for name, outer in self._weights.captured.items()}
        replay = Replay(self._weights.graph_def, leaves, in_order=in_order)
        for name, tensor in inputs.items():
            replay.set(self.inputs[name], tensor)
        return replay

    def passed(self, tensor: str) -> str | None:
        """Returns the tensor with the same values in the same order before a change of shape, or None."""
        node = self.nodes[base_name(tensor)]
        is_turned = node.op == "Transpose" and not self._keeps_order(tensor_name(node.input[1]))
        if node.op not in _PASSING or is_turned:
            return None
        return tensor_name(node.input[0])

    def _keeps_order(self, axes: str) -> bool:
        """Whether a transposition moves no axis, as those of tf.tensordot."""
        if not self.is_constant(axes):
            return False
        found = self.value(axes)
        return bool((found == np.arange(found.size)).all())

    def value(self, tensor: str) -> np.ndarray:
        """Computes a small tensor that depends on weights alone, once."""
        if tensor not in self._small:
            self._small |= self.values([tensor])
        return self._small[tensor]

    def values(self, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """Computes tensors that depend on weights alone."""
        import tensorflow as tf

        names = list(dict.fromkeys(tensors))

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
        def compute() -> list[Any]:
            replay = self.replay({})
            return [replay.tensor(name) for name in names]

        return {
            name: value.numpy() for name, value in zip(names, compute.get_concrete_function()(), strict=True)
        }

    def _find_constant(self) -> set[str]:
        found = set(self._weights.constants)
        for node in self.order:
            sources = [source for source in node.input if not source.startswith("^")]
            is_derived = bool(sources) and all(base_name(source) in found for source in sources)
            if node.op == "Const" or (is_derived and not _has_state(node.op)):
                found.add(node.name)
        return found

    def _drop_orders(self) -> None:
        """Lets what depends on weights alone be computed before, and without, the inputs.

        An inlined function's constants wait for its arguments otherwise.
        """
        for name in self._constant:
            kept = [source for source in self.nodes[name].input if not source.startswith("^")]
            del self.nodes[name].input[:]
            self.nodes[name].input.extend(kept)


def _has_state(operation: str) -> bool:
    """Whether an operation may return something else for the same inputs, such as random numbers."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    return definition is None or definition.is_stateful

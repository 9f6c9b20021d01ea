"""Feeds zeros to inputs that a model's outputs do not depend on, such as Google's ``label_ids``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.runtime.tensorflow_setup import import_tensorflow

# Calls inside calls that are followed; Python follows about 300.
_MAX_DEPTH = 50
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Where an input is written into the model's state, it has an effect that no path from it shows.
_WRITES = ("Assign", "LookupTableInsert", "LookupTableImport", "ResourceScatter", "TensorListPush")


def without_unused(
    function: ModuleFunction, output: str | None, kept: Collection[str]
) -> tuple[ModuleFunction, tuple[str, ...]]:
    """Removes the inputs that outputs do not depend on, and the outputs that depend on such an input.

    Args:
        function: a signature.
        output: the output that must not depend on them; None means all of them.
        kept: inputs that stay, whether used or not.

    Returns:
        The function without these inputs, which feeds them zeros; and their names.
    """
    if len(function.inputs) == 1 or not function.inputs.keys() - set(kept):
        return function, ()
    used = inputs_of_outputs(function)
    needed = used[output] if output in used else set().union(*used.values())
    unused = tuple(sorted(function.inputs.keys() - needed - set(kept)))
    if not unused or len(unused) == len(function.inputs):
        return function, ()
    names = [name for name, found in used.items() if not found & set(unused)]
    left = {name: spec for name, spec in function.inputs.items() if name not in unused}

    def call(**tensors: Any) -> dict[str, Any]:
        zeros = {name: _zeros(function.inputs[name], tensors.values()) for name in unused}
        outputs = function.call(**tensors, **zeros)
        return {name: outputs[name] for name in names}

    return replace(function, inputs=left, call=call), unused


def inputs_of_outputs(function: ModuleFunction) -> dict[str, set[str]]:
    """Returns the inputs that lead to each output; all of them if the graph writes its state."""
    tf = import_tensorflow()
    specs = {name: tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in function.inputs.items()}
    traced = tf.function(lambda **fed: function.call(**fed), autograph=False).get_concrete_function(**specs)
    graph = traced.graph.as_graph_def()
    paths = _Paths(graph.library.function)
    outputs = dict(zip(sorted(traced.structured_outputs), traced.outputs, strict=True))
    if paths.writes(graph.node):
        return {name: set(specs) for name in outputs}
    nodes = {node.name: node for node in graph.node}
    return {name: paths.back(nodes, specs, tensor.name) for name, tensor in outputs.items()}


def _zeros(spec: Any, others: Iterable[Any]) -> Any:
    """Returns zeros, or empty texts, as many as there are texts; open axes are as in another input, or 1."""
    tf = import_tensorflow()
    rank = 1 if spec.shape.rank is None else spec.shape.rank
    shape = [1] * rank if spec.shape.rank is None else [size or 1 for size in spec.shape]
    alike = next((one for one in others if one.shape.rank == rank), None)
    found = list(tf.unstack(tf.shape(alike))) if alike is not None else [tf.shape(next(iter(others)))[0]]
    for axis, size in enumerate(found):
        if spec.shape.rank is None or spec.shape[axis] is None:
            shape[axis] = size
    return tf.zeros(shape, spec.dtype)


class _Paths:
    """Follows edges of data backwards, into the functions that a graph calls."""

    def __init__(self, library: Iterable[Any]) -> None:
        self._functions = {function.signature.name: function for function in library}
        self._found: dict[str, list[set[str]] | None] = {}
        self._depth = 0

    def writes(self, nodes: Iterable[Any]) -> bool:
        """Whether any node, or any function, writes into variables or tables."""
        inner = (node for function in self._functions.values() for node in function.node_def)
        return any(node.op.startswith(_WRITES) for group in (nodes, inner) for node in group)

    def back(self, nodes: Mapping[str, Any], ends: Collection[str], start: str) -> set[str]:
        """Returns the ``ends`` that lead to the tensor ``start``; control edges do not count."""
        waiting = [start]
        seen: set[str] = set()
        found: set[str] = set()
        while waiting:
            tensor = waiting.pop()
            name, _, place = tensor.partition(":")
            if tensor.startswith("^") or tensor in seen:
                continue
            seen.add(tensor)
            if name in ends:
                found.add(name)
            else:
                waiting += self._sources(nodes[name], place)
        return found

    def _sources(self, node: Any, place: str) -> list[str]:
        """Returns the inputs of a node on which one of its outputs depends."""
        given = [name for name in node.input if not name.startswith("^")]
        if node.op not in _CALLS:
            return given
        called = self._functions[node.attr["f"].func.name]
        outputs = self._inside(called)
        index = int(place.rpartition(":")[2] or 0)
        if outputs is None or index >= len(outputs):
            return given
        arguments = [argument.name for argument in called.signature.input_arg]
        return [name for name, argument in zip(given, arguments, strict=True) if argument in outputs[index]]

    def _inside(self, function: Any) -> list[set[str]] | None:
        """Returns the arguments that each output of a function depends on.

        None, which means all of them, if it calls itself, or is called at a depth that no model has.
        """
        name = function.signature.name
        if name not in self._found:
            if self._depth == _MAX_DEPTH:
                return None
            self._depth += 1
            self._found[name] = None
            nodes = {node.name: node for node in function.node_def}
            arguments = [argument.name for argument in function.signature.input_arg]
            self._found[name] = [
                self.back(nodes, arguments, function.ret[output.name])
                for output in function.signature.output_arg
            ]
            self._depth -= 1
        return self._found[name]

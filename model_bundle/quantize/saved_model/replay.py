"""Builds a function's graph again inside another function, with some of its tensors replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from model_bundle.runtime.freeze.weights import base_name


class Replay:
    """A graph that is imported piece by piece, as its tensors are asked for.

    To be made and used inside the function that is being traced. A tensor that is set before anything behind
    it is asked for takes the place of what the graph computes.

    Args:
        graph_def: the graph, functions inlined.
        leaves: how to make tensors that are given, such as inputs and weights, by name; only those that are
            needed are made.
        in_order: False leaves out what nodes only have to wait for: in inlined functions, for all that was
            before the call.
    """

    def __init__(
        self, graph_def: Any, leaves: Mapping[str, Callable[[], Any]], *, in_order: bool = True
    ) -> None:
        self._in_order = in_order
        self._nodes = {node.name: node for node in graph_def.node}
        self._places = {name: place for place, name in enumerate(self._nodes)}
        self._graph_def = graph_def
        self._leaves = leaves
        self._tensors: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}

    def set(self, name: str, tensor: Any) -> None:
        """Replaces a tensor of the graph."""
        self._tensors[tensor_name(name)] = tensor

    def tensor(self, name: str) -> Any:
        """Returns a tensor of the graph, by the name that it has there."""
        name = tensor_name(name)
        if name not in self._tensors:
            if name in self._leaves:
                self._tensors[name] = self._leaves[name]()
            else:
                self._import(base_name(name))
        return self._tensors[name]

    def _import(self, target: str) -> None:
        """Imports a node and all that it needs and that is not there yet."""
        import tensorflow as tf

        names = self._missing(target)
        part = tf.compat.v1.GraphDef(versions=self._graph_def.versions, library=self._graph_def.library)
        replaced: dict[str, Any] = {}
        for name in names:
            node = part.node.add()
            node.CopyFrom(self._nodes[name])
            node.attr.pop("_class", None)  # beside which other node to place it
            inputs = [source for source in node.input if not self._is_dropped(source, names)]
            del node.input[:]
            node.input.extend(inputs)
            for source in inputs:
                if base_name(source) not in names or tensor_name(source) in self._tensors:
                    replaced[source] = self._given(source)
        operations = tf.graph_util.import_graph_def(part, replaced, return_elements=list(names), name="part")
        for name, operation in zip(names, operations, strict=True):
            self._operations[name] = operation
            for index, output in enumerate(operation.outputs):
                self._tensors.setdefault(f"{name}:{index}", output)

    def _missing(self, target: str) -> dict[str, None]:
        """Returns the names of the nodes to import, in the order of the graph."""
        found: set[str] = set()
        waiting = [target]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            for source in self._nodes[name].input:
                node = base_name(source)
                if source.startswith("^") and not self._in_order:
                    continue
                if not self._is_there(source) and node not in self._operations:
                    waiting.append(node)
        return dict.fromkeys(sorted(found, key=self._places.__getitem__))

    def _is_there(self, source: str) -> bool:
        """Whether an input is given, or is only the order after something that is."""
        source = source.removeprefix("^")
        name = tensor_name(source)
        return name in self._tensors or name in self._leaves

    def _is_dropped(self, source: str, names: Mapping[str, None]) -> bool:
        """Whether an input is an order that does not matter, since what comes first is given."""
        node = base_name(source)
        is_waited_for = node in names or node in self._operations
        return source.startswith("^") and not (self._in_order and is_waited_for)

    def _given(self, source: str) -> Any:
        import tensorflow as tf

        if not source.startswith("^"):
            return self.tensor(source)
        operation = self._operations[source[1:]]
        if operation.outputs:
            return operation.outputs[0]
        with tf.control_dependencies([operation]):
            return tf.constant(0)


def tensor_name(name: str) -> str:
    """Returns the full name of a node's input.

    >>> tensor_name("a"), tensor_name("a:1"), tensor_name("^a")
    ('a:0', 'a:1', 'a:0')
    """
    name = name.removeprefix("^")
    return name if ":" in name else f"{name}:0"


def in_order(nodes: Iterable[Any]) -> list[Any]:
    """Sorts nodes so that each comes after its inputs; those inside a loop of TensorFlow 1 are left out."""
    by_name = {node.name: node for node in nodes}
    waiting = {
        name: {base_name(source) for source in node.input} & by_name.keys() for name, node in by_name.items()
    }
    behind: dict[str, list[str]] = {}
    for name, sources in waiting.items():
        for source in sources:
            behind.setdefault(source, []).append(name)
    ready = [name for name, sources in waiting.items() if not sources]
    for name in ready:  # grows
        for follower in behind.get(name, ()):
            waiting[follower].discard(name)
            if not waiting[follower]:
                ready.append(follower)
    return [by_name[name] for name in ready]

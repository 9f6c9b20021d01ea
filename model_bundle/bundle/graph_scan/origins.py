"""Where a tensor comes from: followed back through copies and calls to what made it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from model_bundle.bundle.graph_scan.call_graph import GRAPH, CallGraph, Places
from model_bundle.bundle.graph_scan.roots import node_of, tensor_name

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH = 50


@dataclass(frozen=True)
class Made:
    """A tensor of the graph or of a function, by what makes it; ``node`` is None where it is only given."""

    place: str
    tensor: str
    node: Any = None


@dataclass(frozen=True)
class Bound:
    """An object of the SavedModel that a function was bound to, by its number."""

    number: int


# None: not known, or anything a caller passes.
Origin = Made | Bound | None


class Origins:
    """Follows tensors back, in the nodes that count."""

    def __init__(self, calls: CallGraph, places: Places, started: set[str], given: set[str]) -> None:
        """Takes the nodes of some places.

        Args:
            calls: the functions.
            places: nodes by the function they are in.
            started: functions that a caller from outside can start.
            given: tensors of the graph itself whose value comes from whoever runs it.
        """
        self._calls, self._places, self._started, self._given = calls, places, started, given

    def of(self, place: str, tensor: str, depth: int = 0) -> Iterator[Origin]:
        """Yields everything that a tensor can be; at least one."""
        name = node_of(tensor)
        if depth > _MAX_DEPTH or tensor.startswith("^"):
            yield None
            return
        if place == GRAPH and tensor_name(tensor) in self._given:
            yield Made(place, tensor_name(tensor))
            return
        node = self._nodes[place].get(name)
        if node is None:
            yield from self._argument(place, name, depth)
        elif node.op == "Identity" and node.input:
            yield from self.of(place, node.input[0], depth + 1)
        else:
            yield Made(place, tensor, node)

    def _argument(self, place: str, name: str, depth: int) -> Iterator[Origin]:
        if place == GRAPH or place not in self._calls.functions:
            yield None
            return
        function = self._calls.functions[place]
        names = [argument.name for argument in function.signature.input_arg]
        if name not in names:
            yield None
            return
        position = names.index(name)
        bound = self._calls.bound_object(function, position)
        callers = self._callers[place]
        for caller, call in callers:
            # Of loops and branches nothing is known.
            is_plain = call.op in _CALLS or call.op in self._calls.functions
            if is_plain and position < len(call.input):
                yield from self.of(caller, call.input[position], depth + 1)
            else:
                yield None
        if bound is not None:
            yield Bound(bound)
        elif place in self._started or not callers:
            yield None

    @cached_property
    def _nodes(self) -> dict[str, dict[str, Any]]:
        return {place: {node.name: node for node in nodes} for place, nodes in self._places.items()}

    @cached_property
    def _callers(self) -> dict[str, list[tuple[str, Any]]]:
        callers: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for place, nodes in self._places.items():
            for node in nodes:
                for called in self._calls.called_by(node):
                    callers[called].append((place, node))
        return callers

"""Finds which nodes of a SavedModel can run, and for which purpose, through nested function calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from model_bundle.bundle.graph_scan.allowed_operations import ALLOWED, CALLING
from model_bundle.bundle.graph_scan.roots import Purpose, Start, find_roots, node_of, tensor_name

# The name for nodes outside any function.
GRAPH = ""
# Grappler may replace functions that share a value of this attribute with each other.
_INTERCHANGEABLE = "api_implements"

# Operations that call nothing, whatever attributes a file gives them.
_LEAVES = ALLOWED - CALLING

Places = Mapping[str, list[Any]]


class CallGraph:
    """The functions of one MetaGraphDef and the calls between them."""

    def __init__(self, meta_graph: Any) -> None:
        self.roots = find_roots(meta_graph)
        self._nodes = {node.name: node for node in meta_graph.graph_def.node}
        library = meta_graph.graph_def.library
        self.functions = {function.signature.name: function for function in library.function}
        self._concrete = meta_graph.object_graph_def.concrete_functions
        self._named = {name: name for name in self.functions}
        self._named |= {g.registered_op_type: g.gradient_func for g in library.registered_gradients}
        self._related: dict[str, set[str]] = defaultdict(set)
        for gradient in library.gradient:
            self._related[gradient.function_name].add(gradient.gradient_func)
        self._pair_interchangeable()

    def reached(self, purpose: Purpose) -> Places:
        """Returns the nodes that can run for a purpose, by the function that contains them.

        In the graph itself these are the nodes that roots depend on; in a function, all nodes.
        """
        roots = self.roots[purpose]
        needed = {node.name: node for start in roots.starts for node in self._needed(start)}
        places = {GRAPH: list(needed.values())}
        waiting = [*roots.functions, *self._called(places[GRAPH])]
        while waiting:
            name = waiting.pop()
            function = self.functions.get(name)
            if function is None or name in places:
                continue
            places[name] = list(function.node_def)
            waiting += [*self._related[name], *self._named_in(function.attr.values())]
            waiting += self._called(places[name])
        return places

    def everything(self) -> Places:
        """Returns all nodes there are, whether anything runs them or not."""
        functions = {name: list(function.node_def) for name, function in self.functions.items()}
        return {GRAPH: list(self._nodes.values()), **functions}

    def bound_object(self, function: Any, position: int) -> int | None:
        """Returns the number of the object that an argument is bound to; None where it is not bound."""
        name = function.signature.name
        if name not in self._concrete:
            return None
        bound = self._concrete[name].bound_inputs
        index = position - (len(function.signature.input_arg) - len(bound))
        return bound[index] if 0 <= index < len(bound) else None

    def called_by(self, node: Any) -> set[str]:
        """Returns the functions that a node may call: in any attribute, at any depth, or as its operation."""
        return set(self._called([node]))

    def _called(self, nodes: Iterable[Any]) -> Iterator[str]:
        for node in nodes:
            operation = node.op
            if operation in self.functions:
                yield operation
            if operation not in _LEAVES:
                yield from self._named_in(node.attr.values())

    def _named_in(self, values: Iterable[Any]) -> Iterator[str]:
        for value in values:
            kind = value.WhichOneof("value")
            if kind == "s":
                yield from self._by_name(value.s)
            elif kind == "func":
                yield from self._referred(value.func)
            elif kind == "list":
                for name in value.list.s:
                    yield from self._by_name(name)
                for reference in value.list.func:
                    yield from self._referred(reference)

    def _by_name(self, name: bytes) -> Iterator[str]:
        """Treats any string that is a function's name as a call of that function."""
        found = self._named.get(name.decode("utf-8", "replace"))
        if found is not None:
            yield found

    def _referred(self, reference: Any) -> Iterator[str]:
        yield reference.name
        yield from self._named_in(reference.attr.values())

    def _needed(self, start: Start) -> Iterator[Any]:
        """Walks from the wanted tensors to all nodes that they depend on, stopping at fed tensors."""
        seen: set[str] = set()
        waiting = list(start.wanted)
        while waiting:
            tensor = waiting.pop()
            name = node_of(tensor)
            if tensor_name(tensor) in start.fed or name in seen or name not in self._nodes:
                continue
            seen.add(name)
            yield self._nodes[name]
            waiting += self._nodes[name].input

    def _pair_interchangeable(self) -> None:
        alike: dict[bytes, set[str]] = defaultdict(set)
        for name, function in self.functions.items():
            if _INTERCHANGEABLE in function.attr:
                alike[function.attr[_INTERCHANGEABLE].s].add(name)
        for names in alike.values():
            for name in names:
                self._related[name] |= names

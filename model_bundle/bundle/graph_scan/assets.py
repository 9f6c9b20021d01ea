"""Checks that every lookup table is initialised from the model's own assets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from model_bundle.bundle.graph_scan.call_graph import GRAPH, CallGraph, Places
from model_bundle.bundle.graph_scan.proto import message_class
from model_bundle.bundle.graph_scan.roots import Purpose, node_of

# Operations that read a table from a file, with the position of the input that names the file.
TABLE_READERS = {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
_ASSETS = "saved_model_assets"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH = 50


class Assets:
    """The files under ``assets/`` that a MetaGraphDef names, and the tensors that hold their paths."""

    def __init__(self, meta_graph: Any) -> None:
        files = list(_asset_files(meta_graph))
        self.tensors = {node_of(file.tensor_info.name) for file in files}
        self.outside = sorted({file.filename for file in files if not _is_inside(file.filename)})
        self._objects = meta_graph.object_graph_def

    def is_bound(self, function: Any, position: int) -> bool | None:
        """Whether an argument of a function is bound to an asset; None if it is not bound."""
        stored = self._objects.concrete_functions
        name = function.signature.name
        if name not in stored:
            return None
        bound = stored[name].bound_inputs
        index = position - (len(function.signature.input_arg) - len(bound))
        if not 0 <= index < len(bound):
            return None
        nodes = self._objects.nodes
        is_known: bool = 0 <= bound[index] < len(nodes)
        return is_known and nodes[bound[index]].WhichOneof("kind") == "asset"


class AssetTrace:
    """Traces file names back through calls to their origin, within the nodes that run for one purpose."""

    def __init__(self, assets: Assets, calls: CallGraph, purpose: Purpose, places: Places) -> None:
        self._assets, self._calls, self._purpose, self._places = assets, calls, purpose, places

    def reads_asset(self, place: str, node: Any) -> bool:
        """Whether a table reader can only receive paths of assets."""
        position = TABLE_READERS[node.op]
        return position < len(node.input) and self._is_asset(place, node.input[position], 0)

    def _is_asset(self, place: str, tensor: str, depth: int) -> bool:
        if depth > _MAX_DEPTH:
            return False
        name = node_of(tensor)
        # Loading sets the paths of assets when it initialises; elsewhere the tensor has its stored value.
        if place == GRAPH and self._purpose is Purpose.INITIALIZE and name in self._assets.tensors:
            return True
        node = self._nodes[place].get(name)
        if node is None:
            return place != GRAPH and self._is_argument(place, name, depth)
        if node.op == "Identity":
            return self._is_asset(place, node.input[0], depth + 1)
        return node.op == "ReadVariableOp" and self._is_variable(place, node.input[0], depth)

    def _is_argument(self, place: str, name: str, depth: int) -> bool:
        function = self._calls.functions[place]
        names = [argument.name for argument in function.signature.input_arg]
        if name not in names:
            return False
        position = names.index(name)
        found = [self._is_given(*call, position, depth) for call in self._callers[place]]
        bound = self._assets.is_bound(function, position)
        if bound is not None:
            found.append(bound)
        elif place in self._calls.roots[self._purpose].functions:
            found.append(False)  # a caller from outside may pass anything
        return bool(found) and all(found)

    def _is_given(self, place: str, call: Any, position: int, depth: int) -> bool:
        """Whether a call passes an asset; loops and branches are not traced."""
        is_plain = call.op in _CALLS or call.op in self._calls.functions
        return (
            is_plain and position < len(call.input) and self._is_asset(place, call.input[position], depth + 1)
        )

    def _is_variable(self, place: str, handle: str, depth: int) -> bool:
        """Whether every value assigned to a variable of this function is the path of an asset."""
        owner = self._nodes[place].get(node_of(handle))
        if owner is None or owner.op != "VarHandleOp":
            return False
        assigned = [
            node.input[1]
            for node in self._places[place]
            if node.op == "AssignVariableOp" and node_of(node.input[0]) == owner.name
        ]
        return bool(assigned) and all(self._is_asset(place, tensor, depth + 1) for tensor in assigned)

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


def _asset_files(meta_graph: Any) -> Iterator[Any]:
    """Lists assets as loading does: the current field, else the collection of TF1."""
    if meta_graph.asset_file_def:
        yield from meta_graph.asset_file_def
    elif _ASSETS in meta_graph.collection_def:
        read = message_class("AssetFileDef").FromString
        for stored in meta_graph.collection_def[_ASSETS].any_list.value:
            yield read(stored.value)


def _is_inside(filename: str) -> bool:
    path = PurePosixPath(filename)
    return not (path.is_absolute() or ".." in path.parts or ":" in filename or "\0" in filename)

"""Which files operations can be given: the model's own assets, or the checkpoint that the caller names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from model_bundle.bundle.graph_scan.call_graph import GRAPH, CallGraph, Places
from model_bundle.bundle.graph_scan.origins import Bound, Made, Origin, Origins
from model_bundle.bundle.graph_scan.proto import message_class
from model_bundle.bundle.graph_scan.roots import Purpose, tensor_name

# Operations that read a table from a file, by which of their inputs names it.
TABLE_READERS = {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
# Operations that read or write a checkpoint, by which of their inputs name it.
CHECKPOINT_PATHS = {
    "Restore": (0,),
    "RestoreSlice": (0,),
    "RestoreV2": (0,),
    "Save": (0,),
    "SaveSlices": (0,),
    "SaveV2": (0,),
    "MergeV2Checkpoints": (0, 1),
}
# What a saver makes of the prefix it is given: parts of a checkpoint below it.
_BELOW_PREFIX = ("StringJoin", "ShardedFilename")
_PACK = "Pack"
# Operations on variables: these and all named Resource… change them, but for those that only read.
_ASSIGNING = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
_READING = ("ResourceGather", "ResourceGatherNd")
_STRING, _RESOURCE, _VARIANT = 7, 20, 21
_ASSETS = "saved_model_assets"


class Assets:
    """The files under ``assets/`` that a MetaGraphDef names, and the tensors that get their paths."""

    def __init__(self, meta_graph: Any) -> None:
        files = list(_asset_files(meta_graph))
        self.tensors = {tensor_name(file.tensor_info.name) for file in files}
        self.outside = sorted({file.filename for file in files if not _is_inside(file.filename)})
        self._objects = meta_graph.object_graph_def.nodes

    def is_asset(self, number: int) -> bool:
        """Whether an object is an asset and stays one: a child or class of its own would change its path."""
        if not 0 <= number < len(self._objects):
            return False
        node = self._objects[number]
        return node.WhichOneof("kind") == "asset" and not node.registered_name and not node.children


class PathTrace:
    """Judges the paths that operations are given, in what runs for one purpose."""

    def __init__(self, assets: Assets, calls: CallGraph, purpose: Purpose, places: Places) -> None:
        self._assets, self._calls, self._purpose = assets, calls, purpose
        roots = calls.roots[purpose]
        # Loading gives assets their paths where it initialises, and a saver the prefix; elsewhere the tensor
        # is what the file says.
        self._given: set[str] = set()
        if purpose is Purpose.INITIALIZE:
            self._given = set(assets.tensors)
        elif purpose in (Purpose.RESTORE, Purpose.SAVE):
            self._given = {name for start in roots.starts for name in start.fed}
        self._origins = Origins(calls, places, roots.functions, self._given)

    def reads_asset(self, place: str, node: Any) -> bool:
        """Whether a reader of tables can only be given paths of assets."""
        position = TABLE_READERS[node.op]
        return position < len(node.input) and self._is_asset(place, node.input[position])

    def uses_given_prefix(self, place: str, node: Any) -> bool:
        """Whether a checkpoint can only be the one that whoever restores or saves has named."""
        if self._purpose not in (Purpose.RESTORE, Purpose.SAVE):
            return False
        return all(
            position < len(node.input) and self._is_prefix(place, node.input[position])
            for position in CHECKPOINT_PATHS[node.op]
        )

    def _is_asset(self, place: str, tensor: str) -> bool:
        return all(self._is_path(origin) for origin in self._origins.of(place, tensor))

    def _is_path(self, origin: Origin) -> bool:
        match origin:
            case Bound(number):
                return self._assets.is_asset(number)
            case Made(node=None):
                return self._purpose is Purpose.INITIALIZE
            case Made(place, _, node) if node.op == "ReadVariableOp" and node.input:
                return place == GRAPH and self._only_paths_are_stored
        return False

    def _is_prefix(self, place: str, tensor: str) -> bool:
        for origin in self._origins.of(place, tensor):
            if not isinstance(origin, Made):
                return False
            node = origin.node
            if node is None:
                continue
            inputs = [name for name in node.input if not name.startswith("^")]
            if node.op != _PACK:
                is_below = node.op in _BELOW_PREFIX and self._purpose is Purpose.SAVE
                inputs = inputs[:1] if is_below else []
            if not inputs or not all(self._is_prefix(origin.place, name) for name in inputs):
                return False
        return True

    @cached_property
    def _only_paths_are_stored(self) -> bool:
        """Whether no variable of strings anywhere in the model is given anything but paths of assets.

        All variables, not the one that is read: a second handle may mean the same one by its name.
        """
        if self._purpose is not Purpose.INITIALIZE:
            return False
        everything = self._calls.everything()
        origins = Origins(self._calls, everything, set(self._calls.functions), self._given)
        for place, nodes in everything.items():
            for node in nodes:
                if not _stores_strings(node):
                    continue
                known = node.op == "AssignVariableOp" and place == GRAPH and len(node.input) > 1
                if not known or not all(map(self._is_given, origins.of(place, node.input[1]))):
                    return False
        return True

    @staticmethod
    def _is_given(origin: Origin) -> bool:
        return isinstance(origin, Made) and origin.node is None


def changes_text_in_place(node: Any) -> bool:
    """Whether an operation that works in place could be given strings, handles, or what its call decides."""
    kind = node.attr["T"].type if "T" in node.attr else 0
    return kind in (0, _STRING, _RESOURCE, _VARIANT)


def _stores_strings(node: Any) -> bool:
    """Whether an operation changes a variable of strings, or one whose type its call decides."""
    is_writer = node.op.startswith("Resource") or node.op in _ASSIGNING
    if not is_writer or node.op in _READING:
        return False
    kinds = [node.attr[name].type for name in ("dtype", "T") if name in node.attr]
    return not kinds or 0 in kinds or _STRING in kinds


def _asset_files(meta_graph: Any) -> Iterator[Any]:
    """Lists assets as loading does: the field of today, else the collection of TF1."""
    if meta_graph.asset_file_def:
        yield from meta_graph.asset_file_def
    elif _ASSETS in meta_graph.collection_def:
        read = message_class("AssetFileDef").FromString
        for stored in meta_graph.collection_def[_ASSETS].any_list.value:
            yield read(stored.value)


def _is_inside(filename: str) -> bool:
    path = PurePosixPath(filename)
    return not (path.is_absolute() or ".." in path.parts or ":" in filename or "\0" in filename)

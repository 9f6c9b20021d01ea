"""Changes SavedModels at random, in ways that look for a hole."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

_OPERATIONS = """
    WriteFile ReadFile Save SaveV2 RestoreV2 Restore MergeV2Checkpoints MatchingFiles PyFunc EagerPyFunc
    InplaceUpdate InitializeTableFromTextFileV2 ResourceScatterUpdate ResourceStridedSliceAssign ParseTensor
    TextLineDataset RemoteCall ImmutableConst DecodeProtoV2 PrintV2 Identity StringJoin NoOp Const
    VarHandleOp AssignVariableOp ReadVariableOp PartitionedCall StatefulPartitionedCall
"""
OPERATIONS = _OPERATIONS.split()
NAMES = ("_create_resource", "_initialize", "_destroy_resource", "_path", "__call__")
CLASSES = ("", "tf.TrackableConstant", "tf.StaticHashTable", "nothing")


def mutate_model(content: bytes, seed: int, outside: str) -> bytes:
    """Returns another ``saved_model.pb``.

    Args:
        content: that of a good model.
        seed: decides what is changed.
        outside: a path that no model may reach.
    """
    chance = random.Random(seed)
    if chance.random() < 0.1:
        return _mutate_bytes(content, chance)
    model = saved_model_pb2.SavedModel.FromString(content)
    for _ in range(chance.randint(1, 4)):
        chance.choice(_EDITS)(model.meta_graphs[0], chance, outside)
    made: bytes = model.SerializeToString()
    return made


def _mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 20)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randint(1, len(changed))] if chance.random() < 0.2 else changed)


def _all_nodes(graph: Any) -> list[Any]:
    functions = graph.graph_def.library.function
    return [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]


def _operation(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    chance.choice(_all_nodes(graph)).op = chance.choice(OPERATIONS)


def _input(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    node, other = chance.choice(_all_nodes(graph)), chance.choice(_all_nodes(graph))
    if node.input:
        node.input[chance.randrange(len(node.input))] = chance.choice(
            [f"{other.name}:0", f"{other.name}:output:0", f"^{other.name}", other.name]
        )


def _constant(graph: Any, chance: random.Random, outside: str) -> None:
    found = [node for node in _all_nodes(graph) if node.attr["value"].tensor.string_val]
    if found:
        chance.choice(found).attr["value"].tensor.string_val[0] = outside.encode()


def _function(graph: Any, chance: random.Random, outside: str) -> None:
    """Adds a node that writes to a function, as a part of it that runs."""
    functions = graph.graph_def.library.function
    if not functions:
        return
    function = chance.choice(functions)
    name = f"added_{chance.randrange(10**6)}"
    for suffix in ("name", "text"):
        made = function.node_def.add(name=f"{name}_{suffix}", op="Const")
        made.attr["dtype"].type = 7
        made.attr["value"].tensor.dtype = 7
        made.attr["value"].tensor.string_val.append(outside.encode())
        made.attr["value"].tensor.tensor_shape.SetInParent()
    operation = chance.choice(["WriteFile", "WriteFile", *OPERATIONS])
    inputs = [f"{name}_name:output:0", f"{name}_text:output:0"]
    function.node_def.add(name=name, op=operation, input=inputs)
    function.control_ret[name] = name
    function.signature.control_output.append(name)


def _child(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    nodes = graph.object_graph_def.nodes
    if nodes:
        name = chance.choice(NAMES)
        kind = chance.choice(["children", "dependencies"])
        getattr(chance.choice(nodes), kind).add(node_id=chance.randrange(len(nodes)), local_name=name)


def _saver(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    nodes = graph.object_graph_def.nodes
    functions = [number for number, node in enumerate(nodes) if node.WhichOneof("kind") == "function"]
    if functions:
        saver = chance.choice(nodes).saveable_objects[chance.choice(["x", ".TENSORS"])]
        saver.save_function, saver.restore_function = chance.choice(functions), chance.choice(functions)


def _bound(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    objects = graph.object_graph_def
    found = [function for function in objects.concrete_functions.values() if function.bound_inputs]
    if found:
        chosen = chance.choice(found).bound_inputs
        chosen[chance.randrange(len(chosen))] = chance.randrange(len(objects.nodes))


def _class(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    if graph.object_graph_def.nodes:
        chance.choice(graph.object_graph_def.nodes).registered_name = chance.choice(CLASSES)


def _asset(graph: Any, chance: random.Random, outside: str) -> None:
    if graph.asset_file_def:
        place = chance.choice([outside, f"../..{outside}", "gs://bucket/x", "nothing"])
        chance.choice(graph.asset_file_def).filename = place


def _start(graph: Any, chance: random.Random, outside: str) -> None:
    del outside
    name = chance.choice(_all_nodes(graph)).name
    which = chance.randrange(3)
    if which == 0:
        graph.saver_def.restore_op_name = name
    elif which == 1:
        graph.saver_def.filename_tensor_name = f"{name}:0"
    else:
        graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = f"{name}:0"


def _format(graph: Any, chance: random.Random, outside: str) -> None:
    """Lets TensorFlow take it for a model of its first version."""
    del chance, outside
    graph.ClearField("object_graph_def")


_EDITS: tuple[Callable[[Any, random.Random, str], None], ...] = (
    _operation,
    _input,
    _constant,
    _function,
    _child,
    _saver,
    _bound,
    _class,
    _asset,
    _start,
    _format,
)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Returns every file below a folder, by path."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

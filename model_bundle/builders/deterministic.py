"""Removes process history from a ``saved_model.pb``, so that equal models have equal bytes.

TensorFlow ends function names with a number that counts up while the process lives, and sorts by name.
Without this, equal models would have different digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CAPTURE_NAME = "_user_specified_name"
_OPTIONS = "config_proto"
# Named after its function, which is "…_cond_774" in one process and "…_cond_901" in another.
_UNUSED_ARGUMENT = re.compile(r"_\d+(?=___redundant_placeholder\d+$)")
_COUNTED = re.compile(r"^(?P<base>.+)_(?P<number>\d+)$")


def stabilize(saved_model: Path) -> None:
    """Renames the functions in a ``saved_model.pb`` by their order among those with the same base name."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    content.ParseFromString(saved_model.read_bytes())
    for graph in content.meta_graphs:
        library = graph.graph_def.library
        names = _stable_names([function.signature.name for function in library.function])
        _rename(content, names)
        for function in library.function:
            _number_captures(function)
            _clear_rewrite_option(function.node_def)
        _clear_rewrite_option(graph.graph_def.node)
        library.function.sort(key=lambda function: function.signature.name)
    saved_model.write_bytes(content.SerializeToString(deterministic=True))


def _stable_names(names: list[str]) -> dict[str, str]:
    """Renumbers from 0 within each base name, in the order in which the functions were created.

    >>> _stable_names(["f_90", "g_77", "f_103"])
    {'f_90': 'f_0', 'f_103': 'f_1', 'g_77': 'g_0'}
    """
    counted = sorted(
        (match["base"], int(match["number"]), name) for name in names if (match := _COUNTED.match(name))
    )
    stable: dict[str, str] = {}
    seen: dict[str, int] = {}
    for base, _, name in counted:
        stable[name] = f"{base}_{seen.setdefault(base, 0)}"
        seen[base] += 1
    return stable


def _number_captures(function: Any) -> None:
    """Names captured weights by position, where TensorFlow uses a process-wide counter."""
    for position, attributes in function.arg_attr.items():
        name = attributes.attr.get(_CAPTURE_NAME)
        if name is not None and name.s.isdigit():
            name.s = str(position).encode("ascii")


def _clear_rewrite_option(nodes: Any) -> None:
    """Clears the bfloat16 rewriting option from function calls.

    A call stores the options of the process that traced it, so a model of another precision that ran there
    before would change the bytes.
    """
    from tensorflow.core.protobuf import config_pb2

    for node in nodes:
        if _OPTIONS in node.attr:
            config = config_pb2.ConfigProto.FromString(node.attr[_OPTIONS].s)
            config.graph_options.rewrite_options.ClearField("auto_mixed_precision_onednn_bfloat16")
            node.attr[_OPTIONS].s = config.SerializeToString(deterministic=True)


def _rename(message: Any, names: dict[str, str]) -> None:
    """Replaces names everywhere in a protocol message: fields, lists, keys of maps."""
    for field, value in message.ListFields():
        if hasattr(value, "ListFields"):
            _rename(value, names)
        elif isinstance(value, str):
            setattr(message, field.name, _new_name(value, names))
        elif field.message_type is not None:
            _rename_all(field, value, names)
        elif field.type == field.TYPE_STRING:
            value[:] = [_new_name(item, names) for item in value]


def _new_name(name: str, names: dict[str, str]) -> str:
    """Returns the new name of a function, or of an argument unused by a loop's condition."""
    return names.get(name) or _UNUSED_ARGUMENT.sub("", name)


def _rename_all(field: Any, values: Any, names: dict[str, str]) -> None:
    """Replaces names in a list of messages, or in a map."""
    if not field.message_type.GetOptions().map_entry:
        for value in values:
            _rename(value, names)
        return
    entry = field.message_type.fields_by_name["value"]
    if entry.message_type is None:
        return
    for value in values.values():
        _rename(value, names)
    moved = {
        key: type(values[key]).FromString(values[key].SerializeToString()) for key in values if key in names
    }
    for key in moved:
        del values[key]
    for key, value in moved.items():
        values[names[key]].CopyFrom(value)


_TABLE_NAME = "shared_name"
_LOADED = re.compile(rb"_load_(\d+(?:_\d+)*)$")


def stabilize_loaded(saved_model: Path) -> None:
    """Sorts the nodes of a ``saved_model.pb`` that was loaded and saved again, and renumbers its tables.

    TensorFlow names tables by a count of loads, and rebuilds TF1 graphs in no fixed order; neither changes
    results. What it makes of TF1 loops still differs from one load to the next.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    content.ParseFromString(saved_model.read_bytes())
    for graph in content.meta_graphs:
        functions = [function.node_def for function in graph.graph_def.library.function]
        for nodes in (graph.graph_def.node, *functions):
            nodes.sort(key=lambda node: node.name)
        _number_loads([node for nodes in (graph.graph_def.node, *functions) for node in nodes])
    saved_model.write_bytes(content.SerializeToString(deterministic=True))


def _number_loads(nodes: Iterable[Any]) -> None:
    """Replaces the load counts in table names; different counts stay different."""
    names = [node.attr[_TABLE_NAME] for node in nodes if _TABLE_NAME in node.attr]
    named = [(name, match[1]) for name in names if (match := _LOADED.search(name.s))]
    order = sorted({number for _, number in named}, key=lambda number: tuple(map(int, number.split(b"_"))))
    for attribute, number in named:
        stable = b"_load_%d" % order.index(number)
        attribute.s = _LOADED.sub(stable, attribute.s)

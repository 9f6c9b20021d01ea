"""Returns a module that was loaded and saved again the same bytes each time.

TensorFlow marks tables with a number that counts loads, and rebuilds TF1's graphs in no fixed order; neither
changes what is computed. What it makes of TF1's loops still differs from one load to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_TABLE_NAME = "shared_name"
_LOADED = re.compile(rb"_load_(\d+(?:_\d+)*)$")


def stabilize_loaded(saved_model: Path) -> None:
    """Sorts the nodes of a ``saved_model.pb``, and numbers its tables by their order."""
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
    """Replaces the numbers that loading put behind the names of tables; different ones stay different."""
    named = [(node.attr[_TABLE_NAME], match[1]) for node in nodes if (match := _load_of(node))]
    order = sorted({number for _, number in named}, key=lambda number: tuple(map(int, number.split(b"_"))))
    for attribute, number in named:
        stable = b"_load_%d" % order.index(number)
        attribute.s = _LOADED.sub(stable, attribute.s)


def _load_of(node: Any) -> re.Match[bytes] | None:
    return _LOADED.search(node.attr[_TABLE_NAME].s) if _TABLE_NAME in node.attr else None

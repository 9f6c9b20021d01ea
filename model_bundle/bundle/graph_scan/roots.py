"""Finds the entry points of a SavedModel: for loading, for callers, for restoring and for saving."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from model_bundle.bundle.graph_scan.proto import message_class

# Collections of TF1 that name the nodes run when a model is loaded.
_INITIALIZERS = ("saved_model_main_op", "legacy_init_op", "table_initializer", "saved_model_initializers")
_LOCAL_VARIABLES = "local_variables"
_INIT_SIGNATURE = "__saved_model_init_op"


class Purpose(StrEnum):
    """Why a node runs: to compute, to fill tables on loading, or to read or write a checkpoint."""

    RUN = "run"
    INITIALIZE = "initialize"
    RESTORE = "restore"
    SAVE = "save"


@dataclass(frozen=True)
class Start:
    """Tensors and operations of the graph itself that are fetched, and tensors that are fed."""

    wanted: frozenset[str]
    fed: frozenset[str] = frozenset()


@dataclass
class Roots:
    """Entry points in the graph itself, and functions by name."""

    starts: list[Start] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)


def find_roots(meta_graph: Any) -> dict[Purpose, Roots]:
    """Returns all entry points, by purpose.

    Args:
        meta_graph: a MetaGraphDef. In TF2's format each function of the saved object counts as callable,
            initialisers and what saves or restores its parts included.
    """
    roots: dict[Purpose, Roots] = defaultdict(Roots)
    for name, signature in meta_graph.signature_def.items():
        purpose = Purpose.INITIALIZE if name == _INIT_SIGNATURE else Purpose.RUN
        start = Start(_tensors(signature.outputs.values()), _tensors(signature.inputs.values()))
        roots[purpose].starts.append(start)
    roots[Purpose.INITIALIZE].starts.append(Start(frozenset(_initializers(meta_graph.collection_def))))
    saver = meta_graph.saver_def
    given = frozenset([tensor_name(saver.filename_tensor_name)])
    roots[Purpose.RESTORE].starts.append(Start(frozenset([saver.restore_op_name]), given))
    roots[Purpose.SAVE].starts.append(Start(frozenset([saver.save_tensor_name]), given))
    _add_functions(roots, meta_graph.object_graph_def)
    return {purpose: roots[purpose] for purpose in Purpose}


def node_of(tensor: str) -> str:
    """Returns the node that computes a tensor.

    >>> node_of("^scope/add"), node_of("scope/add:1")
    ('scope/add', 'scope/add')
    """
    return tensor.removeprefix("^").split(":")[0]


def tensor_name(name: str) -> str:
    """Returns a tensor's full name; the first output of a node may be named like the node.

    >>> tensor_name("scope/add"), tensor_name("scope/add:1")
    ('scope/add:0', 'scope/add:1')
    """
    return name if ":" in name else f"{name}:0"


def _tensors(infos: Iterable[Any]) -> frozenset[str]:
    """Returns the tensors of inputs or outputs, which may be sparse or ragged."""
    names: set[str] = set()
    for info in infos:
        sparse = info.coo_sparse
        parts = (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
        names |= {tensor_name(name) for name in (info.name, *parts) if name}
        names |= _tensors(info.composite_tensor.components)
    return frozenset(names)


def _initializers(collections: Any) -> Iterator[str]:
    for name in _INITIALIZERS:
        if name in collections:
            yield from collections[name].node_list.value
    if _LOCAL_VARIABLES in collections:
        read = message_class("VariableDef").FromString
        for stored in collections[_LOCAL_VARIABLES].bytes_list.value:
            yield read(stored).initializer_name


def _add_functions(roots: dict[Purpose, Roots], objects: Any) -> None:
    """Adds every function of the saved object, those that save and restore its parts included.

    TensorFlow's loader calls both kinds while it loads (the saving ones for the names of their tensors), and
    reads the checkpoint itself; so none of them needs more than what computes.
    """
    roots[Purpose.RUN].functions |= set(objects.concrete_functions)
    for node in objects.nodes:
        roots[Purpose.RUN].functions |= set(node.function.concrete_functions)
        roots[Purpose.RUN].functions |= {node.bare_concrete_function.concrete_function_name} - {""}

"""Checks a SavedModel, which is a program, for operations with outside effects before any of it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model_bundle.bundle.graph_scan.allowed_operations import (
    ALLOWED,
    RESTORING,
    SAVING,
    is_text_op,
    why_refused,
)
from model_bundle.bundle.graph_scan.assets import (
    CHECKPOINT_PATHS,
    TABLE_READERS,
    Assets,
    PathTrace,
    changes_text_in_place,
)
from model_bundle.bundle.graph_scan.call_graph import GRAPH, CallGraph
from model_bundle.bundle.graph_scan.proto import read_saved_model
from model_bundle.bundle.graph_scan.roots import Purpose
from model_bundle.errors import BundleIntegrityError, ForbiddenOperationError

_ALSO_ALLOWED = {Purpose.RESTORE: RESTORING, Purpose.SAVE: SAVING}
_IN_PLACE = ("InplaceAdd", "InplaceSub", "InplaceUpdate")
_PRINT = "PrintV2"
# Allowed targets of printing, which can also append to a file.
_STREAMS = (b"", b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)")
_CONDITIONAL = frozenset((_PRINT, *_IN_PLACE, *TABLE_READERS, *CHECKPOINT_PATHS))
_NUM_PLACES = 3


def scan_folder(directory: Path, what: str, allowed: Sequence[str] = ()) -> tuple[str, ...]:
    """Scans the SavedModel in a folder; TensorFlow is not needed. See ``scan_saved_model``."""
    return scan_saved_model(read_saved_model(directory), what, allowed)


def scan_saved_model(saved_model: Any, what: str, allowed: Sequence[str] = ()) -> tuple[str, ...]:
    """Checks everything that a SavedModel can run against the list of allowed operations.

    Signatures, initialisers and every function of the saved object are followed through nested functions.
    Only the graph's saver may read or write a checkpoint, and only the one that it is given. Tables may be
    filled from files under ``assets/``.

    Args:
        saved_model: the message in ``saved_model.pb``, TensorFlow's or that of ``read_saved_model``.
        what: the model's name for errors.
        allowed: operations that are accepted although they are not on the list.

    Returns:
        Those of ``allowed`` that the model can run, sorted.

    Raises:
        ForbiddenOperationError: lists all other operations that are not allowed, with reason and place.
        BundleIntegrityError: an asset lies outside of ``assets/``.
    """
    found: dict[str, set[str]] = {}
    for meta_graph in saved_model.meta_graphs:
        assets = Assets(meta_graph)
        if assets.outside:
            raise BundleIntegrityError(
                f"{what} was not opened: its assets lie outside of its folder: {', '.join(assets.outside)}. "
                "Do not trust it."
            )
        for operation, place in _faults(CallGraph(meta_graph), assets):
            found.setdefault(operation, set()).add(place)
    forbidden = {name: places for name, places in found.items() if name not in allowed}
    if forbidden:
        raise ForbiddenOperationError(what, {name: _describe(name, forbidden[name]) for name in forbidden})
    return tuple(sorted(found))


def _faults(calls: CallGraph, assets: Assets) -> Iterator[tuple[str, str]]:
    """Yields operations that are not allowed, with the functions that contain them."""
    for purpose in Purpose:
        usual = (ALLOWED | calls.functions.keys()) - _CONDITIONAL
        places = calls.reached(purpose)
        trace = PathTrace(assets, calls, purpose, places)
        for place, nodes in places.items():
            # Most functions only have usual operations; comparing sets is fast.
            if {node.op for node in nodes} <= usual:
                continue
            for node in nodes:
                if node.op not in usual and not _is_fine(node, place, trace, purpose):
                    yield node.op, place


def _is_fine(node: Any, place: str, trace: PathTrace, purpose: Purpose) -> bool:
    """Whether a conditionally allowed operation meets its condition."""
    if node.op in TABLE_READERS:
        return trace.reads_asset(place, node)
    if node.op in CHECKPOINT_PATHS:
        is_meant = node.op in _ALSO_ALLOWED.get(purpose, ())
        return is_meant and trace.uses_given_prefix(place, node)
    if node.op in _IN_PLACE:
        return not changes_text_in_place(node)
    if node.op == _PRINT:
        return "output_stream" not in node.attr or node.attr["output_stream"].s in _STREAMS
    return is_text_op(node.op)


def _describe(operation: str, places: set[str]) -> str:
    """Returns what an operation does and where it occurs."""
    if operation in TABLE_READERS:
        reason = "fills a table from a file that is not one of the model's own assets"
    elif operation in _IN_PLACE:
        reason = "changes strings in place, which may be the path of a file"
    elif operation == _PRINT:
        reason = "writes what it prints to a file"
    else:
        reason = why_refused(operation)
    named = ["the graph" if place == GRAPH else place for place in sorted(places)]
    listed = ", ".join(named[:_NUM_PLACES]) + (", …" if len(named) > _NUM_PLACES else "")
    return f"{operation} {reason} (in {listed})"

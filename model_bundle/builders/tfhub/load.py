"""Loads a TF-Hub module of either format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_bundle.builders.tfhub.custom_ops import CustomOps, register_ops
from model_bundle.builders.tfhub.handle import HubModule, import_hub
from model_bundle.builders.tfhub.source_scan import read_source
from model_bundle.bundle.graph_scan.scan import scan_saved_model
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow


@dataclass(frozen=True)
class LoadedModule:
    """What TensorFlow made of a module, and the packages whose operations it needs.

    ``signatures`` are ConcreteFunctions with keyword inputs and a dict of outputs. ``allowed_ops`` are the
    operations it has that reach beyond its graph, each allowed by name.
    """

    module: HubModule
    loaded: Any
    signatures: dict[str, Any]
    custom_ops: CustomOps
    allowed_ops: tuple[str, ...]


def load_module(module: HubModule, allow_ops: Sequence[str] = ()) -> LoadedModule:
    """Loads a module; this runs nothing of it but what fills its tables.

    Args:
        module: in a local folder.
        allow_ops: operations that it may use although they reach beyond its graph.

    Raises:
        SourceError: its files are damaged, it has several graphs of which none is for serving, or it uses
            operations that are unknown here.
        MissingExtraError: it uses operations of a package that is not installed.
        ForbiddenOperationError: it could do more than compute. See ``scan_saved_model``.
    """
    saved_model = _read(module)
    custom_ops = register_ops(saved_model, module.location)
    allowed_ops = scan_saved_model(saved_model, module.location, allow_ops)
    tags = _tags(saved_model, module)
    hub, tf = import_hub(), import_tensorflow()
    try:
        loaded = hub.load(str(module.path), tags=tags)
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise SourceError(f"{module.path} does not load: {_first_line(error)}. {module.remedy}") from error
    return LoadedModule(module, loaded, dict(getattr(loaded, "signatures", {})), custom_ops, allowed_ops)


def _read(module: HubModule) -> Any:
    """Reads the graphs as they are, without loading a weight."""
    try:
        return read_source(module.path)
    except SourceError as error:
        raise SourceError(f"{error} {module.remedy}") from error


def _tags(saved_model: Any, module: HubModule) -> list[str] | None:
    """Chooses a graph: in TF1's format the one without tags, else the only one or the one for serving."""
    graphs = [sorted(graph.meta_info_def.tags) for graph in saved_model.meta_graphs]
    wanted = [] if (module.path / "tfhub_module.pb").is_file() else ["serve"]
    if wanted in graphs:
        return wanted
    if len(graphs) == 1:
        return graphs[0]
    found = "; ".join(", ".join(tags) or "no tag" for tags in graphs) or "none"
    raise SourceError(
        f"{module.path}: expected a graph tagged {wanted or 'with nothing'}. The tags of its graphs: {found}."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

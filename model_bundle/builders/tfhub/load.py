"""Loads a TF-Hub module of either format, after a scan of what its graph could do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_bundle.base.system_errors import first_line
from model_bundle.builders.tfhub.handle import HubModule, import_hub
from model_bundle.bundle.graph_scan.allowed_operations import is_text_op
from model_bundle.bundle.graph_scan.scan import scan_saved_model
from model_bundle.errors import SourceError
from model_bundle.runtime.saved_model import import_custom_ops
from model_bundle.runtime.tensorflow_setup import import_tensorflow

CustomOps = tuple[Literal["tensorflow_text"], ...]
_NUM_LISTED = 8


@dataclass(frozen=True)
class LoadedModule:
    """A module as TensorFlow loaded it, and the packages whose operations it needs.

    ``signatures`` are ConcreteFunctions with keyword inputs and a dict of outputs. ``allowed_ops`` are its
    operations that reach beyond the graph, each allowed by name.
    """

    module: HubModule
    loaded: Any
    signatures: dict[str, Any]
    custom_ops: CustomOps
    allowed_ops: tuple[str, ...]


def load_module(module: HubModule, allow_ops: Sequence[str] = ()) -> LoadedModule:
    """Loads a module; this runs only the initialisers of its tables.

    Args:
        module: in a local folder.
        allow_ops: operations that it may use although they reach beyond the graph.

    Raises:
        SourceError: its files are damaged, none of its several graphs is for serving, or it uses unknown
            operations.
        MissingExtraError: it uses operations of a package that is not installed.
        ForbiddenOperationError: it could do more than compute. See ``scan_saved_model``.
    """
    try:
        saved_model = read_source(module.path)
    except SourceError as error:
        raise SourceError(f"{error} {module.remedy}") from error
    custom_ops = register_ops(saved_model, module.location)
    allowed_ops = scan_saved_model(saved_model, module.location, allow_ops)
    tags = _tags(saved_model, module)
    hub, tf = import_hub(), import_tensorflow()
    try:
        loaded = hub.load(str(module.path), tags=tags)
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise SourceError(f"{module.path} does not load: {first_line(error)}. {module.remedy}") from error
    return LoadedModule(module, loaded, dict(getattr(loaded, "signatures", {})), custom_ops, allowed_ops)


def _tags(saved_model: Any, module: HubModule) -> list[str] | None:
    """Returns the tags of the graph to load: none in TF1's format, else ``serve``, else the only graph's."""
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


def register_ops(saved_model: Any, needed_by: str) -> CustomOps:
    """Imports the packages that register a SavedModel's operations; without them it does not load.

    Args:
        saved_model: the message in ``saved_model.pb``.
        needed_by: what to call the model in an error.

    Returns:
        The packages that were needed, for ``BundleManifest.custom_ops``.

    Raises:
        SourceError: neither TensorFlow nor a known package has an operation.
        MissingExtraError: such a package is not installed.
    """
    import_tensorflow()
    from tensorflow.python.framework import op_def_registry

    used = set(_operations(saved_model))
    packages: CustomOps = ("tensorflow_text",) if any(map(is_text_op, used)) else ()
    import_custom_ops(packages, needed_by)
    unknown = sorted(op for op in used if op_def_registry.get(op) is None)
    if unknown:
        listed = ", ".join(unknown[:_NUM_LISTED]) + (", …" if len(unknown) > _NUM_LISTED else "")
        raise SourceError(
            f"{needed_by} uses {len(unknown)} operations that neither TensorFlow nor tensorflow_text has: "
            f"{listed}. They come from a library of their own, which a bundle cannot contain; ask for "
            "an export without them."
        )
    return packages


def _operations(saved_model: Any) -> Iterator[str]:
    """Yields the operations of every graph and its functions, without calls of these functions."""
    for graph in saved_model.meta_graphs:
        library = graph.graph_def.library.function
        functions = {function.signature.name for function in library}
        nodes = [node for function in library for node in function.node_def]
        yield from {node.op for node in [*graph.graph_def.node, *nodes]} - functions


def read_source(directory: Path) -> Any:
    """Reads the message in ``saved_model.pb`` or ``saved_model.pbtxt``, the way TensorFlow does.

    Raises:
        SourceError: neither file exists, or it is damaged.
    """
    import_tensorflow()
    from tensorflow.python.saved_model import loader_impl

    try:
        return loader_impl.parse_saved_model(str(directory))
    except OSError as error:
        raise SourceError(f"{directory} contains no readable SavedModel: {first_line(error)}.") from error

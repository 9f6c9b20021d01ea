"""The functions of a loaded module in one form: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_bundle.builders.tfhub.load import LoadedModule, read_source
from model_bundle.builders.tfhub.parameter_names import parameter_names
from model_bundle.errors import SourceError
from model_bundle.runtime.saved_model import load_into_session
from model_bundle.runtime.tensorflow_setup import import_tensorflow

# The name of a module's ``__call__`` among its signatures.
CALL = "call"
_ANONYMOUS = "default"


@dataclass(frozen=True)
class ModuleFunction:
    """A signature, or a module's ``__call__`` with one set of inputs.

    ``inputs`` are TensorSpecs; ``call`` takes tensors by these names as keywords, and returns tensors by
    name. ``is_call``: it is a ``__call__``, not a signature. ``is_named``: it names its outputs.
    ``aliases``: names of inputs by other names that they have in the model.
    """

    name: str
    inputs: Mapping[str, Any]
    call: Callable[..., dict[str, Any]]
    is_call: bool = False
    is_named: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Returns its name and inputs on one line."""
        inputs = ", ".join(
            f"{name}: {spec.dtype.name}{_shape(spec)}" for name, spec in sorted(self.inputs.items())
        )
        return f"{self.name}({inputs})"


def module_functions(loaded: LoadedModule) -> list[ModuleFunction]:
    """Returns the functions of a module: signatures by name, then its ``__call__``."""
    signatures = [_from_signature(name, loaded.signatures[name]) for name in sorted(loaded.signatures)]
    return [*signatures, *_from_callable(loaded.loaded)]


def _from_signature(name: str, signature: Any) -> ModuleFunction:
    _, found = signature.structured_input_signature
    names = parameter_names(found)
    inputs = {names[key]: spec for key, spec in found.items()}
    # TensorFlow itself changes names that are no parameters; the model's own remain in the specs.
    own = {spec.name: new for new, spec in inputs.items() if spec.name and spec.name not in inputs}

    def call(**tensors: Any) -> dict[str, Any]:
        return dict(signature(**{old: tensors[new] for old, new in names.items()}))

    return ModuleFunction(name, inputs, call, aliases=own | _changed(names))


def _changed(names: Mapping[str, str]) -> dict[str, str]:
    return {old: new for old, new in names.items() if old != new}


def _from_callable(loaded: Any) -> Iterator[ModuleFunction]:
    """Yields every trace of a module's ``__call__``; those for training come last."""
    tf = import_tensorflow()
    function = loaded.__call__ if callable(loaded) else None
    traced = list(getattr(function, "concrete_functions", None) or ())
    leaves = [tf.nest.flatten(one.structured_input_signature) for one in traced]
    order = sorted(range(len(traced)), key=lambda index: any(leaf is True for leaf in leaves[index]))
    for index in order:
        made = _from_trace(tf, function, traced[index])
        if made is not None:
            yield made


def _from_trace(tf: Any, function: Any, traced: Any) -> ModuleFunction | None:
    """Binds the non-tensor arguments of a trace; None if its tensors have no distinct names."""
    structure = traced.structured_input_signature
    leaves = tf.nest.flatten(structure)
    specs = [leaf for leaf in leaves if isinstance(leaf, tf.TypeSpec)]
    names = _input_names(structure, specs)
    if not specs or len(set(names)) < len(specs) or not all(isinstance(s, tf.TensorSpec) for s in specs):
        return None

    def call(**tensors: Any) -> dict[str, Any]:
        waiting = iter(names)
        filled = [tensors[next(waiting)] if isinstance(leaf, tf.TensorSpec) else leaf for leaf in leaves]
        positional, named = tf.nest.pack_sequence_as(structure, filled)
        return dict(_named(tf, function(*positional, **named), ""))

    is_named = isinstance(traced.structured_outputs, Mapping)
    return ModuleFunction(CALL, dict(zip(names, specs, strict=True)), call, True, is_named)


def _input_names(structure: Any, specs: list[Any]) -> list[str]:
    """Names tensors by their keys if one argument is a dict of them all, else as the trace does."""
    positional, _ = structure
    if positional and isinstance(positional[0], Mapping) and len(positional[0]) == len(specs):
        return sorted(positional[0])  # the order in which a dict is flattened
    return [spec.name or f"input_{index}" for index, spec in enumerate(specs)]


def _named(tf: Any, outputs: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Flattens outputs to named tensors: ``name``, ``name_0`` in a list. Other values are left out."""
    if isinstance(outputs, Mapping):
        for key, value in outputs.items():
            yield from _named(tf, value, f"{prefix}_{key}" if prefix else str(key))
    elif isinstance(outputs, (list, tuple)):
        for index, value in enumerate(outputs):
            yield from _named(tf, value, f"{prefix or 'output'}_{index}")
    elif tf.is_tensor(outputs) and isinstance(outputs, tf.Tensor):
        yield prefix or _ANONYMOUS, outputs


def _shape(spec: Any) -> str:
    if spec.shape.rank is None:
        return "[…]"
    return str(["?" if size is None else size for size in spec.shape]).replace("'", "")


_FIRST_KIND = ("VariableV2", "Variable")
_TABLES = ("HashTableV2", "HashTable", "MutableHashTableV2", "LookupTableFindV2")


def saved_functions(loaded: LoadedModule) -> list[ModuleFunction]:
    """Returns the functions of a model in a form that can be saved again.

    Variables of TensorFlow 1's first kind live in a session only: TensorFlow 2 loads and runs such a graph,
    but loses their values when saving it. As constants they are kept.

    Raises:
        SourceError: the graph has such variables and also tables, which cannot become constants.
    """
    saved_model = read_source(loaded.module.path)
    graphs = saved_model.meta_graphs
    serving = [graph for graph in graphs if "serve" in graph.meta_info_def.tags] or list(graphs)
    operations = {node.op for graph in serving for node in graph.graph_def.node}
    if not operations & set(_FIRST_KIND):
        return module_functions(loaded)
    if operations & set(_TABLES):
        raise SourceError(
            f"{loaded.module.location} has both reference variables of TensorFlow 1 and tables, which cannot "
            "be saved again together. Export it with resource variables: tf.enable_resource_variables()."
        )
    return [
        _constant(loaded, saved_model, serving[0], name, signature)
        for name, signature in sorted(serving[0].signature_def.items())
        if signature.method_name != "__saved_model_init_op"
    ]


def _constant(
    loaded: LoadedModule, saved_model: Any, graph: Any, name: str, signature: Any
) -> ModuleFunction:
    """Builds a function from one signature, with its weights as constants."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    given, made = dict(signature.inputs), dict(signature.outputs)
    with v1.Session(graph=tf.Graph()) as session:
        module, tags = loaded.module, list(graph.meta_info_def.tags)
        load_into_session(session, module.path, saved_model, module.location, loaded.allowed_ops, tags)
        nodes = sorted({info.name.split(":")[0] for info in (*given.values(), *made.values())})
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), nodes)
    wrapped = v1.wrap_function(lambda: tf.graph_util.import_graph_def(frozen, name=""), [])
    feeds = [wrapped.graph.as_graph_element(info.name) for info in given.values()]
    fetches = {key: wrapped.graph.as_graph_element(info.name) for key, info in made.items()}
    pruned = wrapped.prune(feeds, fetches)
    names = parameter_names(given)
    specs = {
        names[key]: tf.TensorSpec(feed.shape, feed.dtype, name=names[key])
        for key, feed in zip(given, feeds, strict=True)
    }

    def call(**tensors: Any) -> dict[str, Any]:
        return dict(pruned(*(tensors[names[key]] for key in given)))

    return ModuleFunction(name, specs, call, aliases=_changed(names))

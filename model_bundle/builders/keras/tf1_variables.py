"""Functions of TensorFlow 1's graphs with variables of its first kind, which only live inside a session.

TensorFlow 2 loads and runs such a graph, but saved again it has lost their values. As constants they stay.
"""

from __future__ import annotations

from typing import Any

from model_bundle.builders.tfhub.function import ModuleFunction, module_functions
from model_bundle.builders.tfhub.load import LoadedModule
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

_FIRST_KIND = ("VariableV2", "Variable")
_TABLES = ("HashTableV2", "HashTable", "MutableHashTableV2", "LookupTableFindV2")


def saved_functions(loaded: LoadedModule) -> list[ModuleFunction]:
    """Lists the functions of a model in a form that can be saved again.

    Raises:
        SourceError: the graph has variables of the first kind, and tables, which do not become constants.
    """
    import_tensorflow()
    from tensorflow.python.saved_model import loader_impl

    graphs = loader_impl.parse_saved_model(str(loaded.module.path)).meta_graphs
    serving = [graph for graph in graphs if "serve" in graph.meta_info_def.tags] or list(graphs)
    operations = {node.op for graph in serving for node in graph.graph_def.node}
    if not operations & set(_FIRST_KIND):
        return module_functions(loaded)
    if operations & set(_TABLES):
        raise SourceError(
            f"{loaded.module.location} has both TensorFlow 1's own variables and tables, which cannot be "
            "saved again together. Export it with resource variables: tf.enable_resource_variables()."
        )
    return [
        _constant(loaded, serving[0], name, signature)
        for name, signature in sorted(serving[0].signature_def.items())
        if signature.method_name != "__saved_model_init_op"
    ]


def _constant(loaded: LoadedModule, graph: Any, name: str, signature: Any) -> ModuleFunction:
    """Builds a function of one signature, in which weights are constants."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    given, made = dict(signature.inputs), dict(signature.outputs)
    with v1.Session(graph=tf.Graph()) as session:
        v1.saved_model.load(session, list(graph.meta_info_def.tags), str(loaded.module.path))
        nodes = sorted({info.name.split(":")[0] for info in (*given.values(), *made.values())})
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), nodes)
    wrapped = v1.wrap_function(lambda: tf.graph_util.import_graph_def(frozen, name=""), [])
    feeds = [wrapped.graph.as_graph_element(info.name) for info in given.values()]
    fetches = {key: wrapped.graph.as_graph_element(info.name) for key, info in made.items()}
    pruned = wrapped.prune(feeds, fetches)
    specs = {
        key: tf.TensorSpec(feed.shape, feed.dtype, name=key) for key, feed in zip(given, feeds, strict=True)
    }
    return ModuleFunction(name, specs, lambda **tensors: dict(pruned(*(tensors[key] for key in given))))

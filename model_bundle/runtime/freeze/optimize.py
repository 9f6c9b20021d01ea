"""Optimises a function's graph with placeholders for its large weights, and inserts their values afterwards.

TensorFlow optimises a function at its first call and copies the graph some ten times, with every constant in
it: gigabytes for a model of hundreds of megabytes. See ``docs/decisions/constants.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model_bundle.runtime.freeze.weights import Weights, base_name, value_of

# Smaller constants are in the graph from the start: some patterns that TensorFlow fuses, such as LayerNorm,
# need their values.
_LARGE_BYTES = 65_536
# The optimiser fuses nodes only if their device is known.
_DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"
# These do not compute: a constant behind them is still only a weight.
_PASSING = frozenset({"Identity", "Const", "Placeholder", "Bitcast"})

Call = Callable[[Mapping[str, Any]], dict[str, Any]]


class CannotOptimizeError(ValueError):
    """The graph needs its weights' values during optimisation; the message says where."""


def build_optimized(weights: Weights, fed: list[Any]) -> Call:
    """Builds a callable of a graph that was optimised without its large weights.

    Args:
        weights: what becomes constants, and the graph.
        fed: the function's inputs.

    Raises:
        CannotOptimizeError: a node is computed from weights alone, which is done only once if their values
            are known; or there is a device other than the CPU.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context, execute

    if tf.config.list_physical_devices("GPU"):
        raise CannotOptimizeError("there is a GPU, whose kernels are chosen when the function is called")
    skeleton = _Skeleton(weights, fed)
    optimized = skeleton.optimized()
    _check(optimized, set(skeleton.large))
    _drop_waiting_for_inputs(optimized)
    _register_functions(optimized)

    def build(*inputs: Any) -> Any:
        values = {
            f"{name}:0": tf.constant(value_of(variable, dtype), dtype=dtype)
            for name, (variable, dtype) in skeleton.large.items()
        }
        names = [f"{name}:0" for name in skeleton.inputs]
        return tf.graph_util.import_graph_def(
            optimized,
            input_map=values | dict(zip(names, inputs, strict=True)),
            return_elements=skeleton.outputs,
            name="",
        )

    specs = list(skeleton.inputs.values())
    function = tf.function(build, autograph=False, input_signature=specs).get_concrete_function()
    name = function.name.decode()
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    attributes = ("executor_type", "", "config_proto", config.SerializeToString())
    keys, bound = [tensor.op.name for tensor in fed], list(weights.captured.values())

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        tensors = [*(inputs[key] for key in keys), *bound]
        # As ConcreteFunction does, but with separate options: those of tf.config are process-wide.
        # The reference to the function keeps it alive: TensorFlow drops unreferenced ones.
        outputs = execute.execute(name, len(function.outputs), tensors, attributes, context.context())
        return dict(zip(weights.targets, outputs, strict=True))

    return call


class _Skeleton:
    """The graph with small constants in it and placeholders for inputs and large weights.

    ``inputs``: specs of fed and bound tensors by placeholder name. ``large``: variables and types of large
    weights by placeholder name. ``outputs``: names of the results.
    """

    def __init__(self, weights: Weights, fed: list[Any]) -> None:
        import tensorflow as tf

        # Read before there is a graph, in which variables have no value.
        small = [None if _is_large(v, dtype) else value_of(v, dtype) for v, dtype, _ in weights.shared]
        self._graph = tf.Graph()
        self.inputs: dict[str, Any] = {}
        with self._graph.as_default():
            replaced = {tensor.name: self._input(tensor) for tensor in fed}
            replaced |= {f"{name}:0": self._input(outer) for name, outer in weights.captured.items()}
            self.large = {}
            for known, (variable, dtype, names) in zip(small, weights.shared, strict=True):
                if known is None:
                    value = tf.compat.v1.placeholder(dtype, variable.shape, name="weight")
                    self.large[value.op.name] = (variable, dtype)
                else:
                    value = tf.constant(known, dtype=dtype)
                replaced |= {f"{name}:0": value for name in names}
            found = tf.graph_util.import_graph_def(
                weights.graph_def, replaced, list(weights.targets.values()), name="frozen"
            )
            self.outputs = [tf.identity(output, name="output").name for output in found]

    def _input(self, tensor: Any) -> Any:
        import tensorflow as tf

        placeholder = tf.compat.v1.placeholder(tensor.dtype, tensor.shape, name="input")
        self.inputs[placeholder.op.name] = tf.TensorSpec(tensor.shape, tensor.dtype)
        return placeholder

    def optimized(self) -> Any:
        """Returns the graph as TensorFlow's optimisers leave it."""
        import tensorflow as tf
        from tensorflow.core.protobuf import meta_graph_pb2
        from tensorflow.python.grappler import tf_optimizer

        with self._graph.as_default():
            model = tf.compat.v1.train.export_meta_graph(graph=self._graph)
        for node in model.graph_def.node:
            node.device = _DEVICE
        fetched = meta_graph_pb2.CollectionDef()
        fetched.node_list.value.extend(f"{name}:0" for name in [*self.inputs, *self.large])
        fetched.node_list.value.extend(self.outputs)
        model.collection_def["train_op"].CopyFrom(fetched)
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.min_graph_nodes = -1  # small ones, too
        found = tf_optimizer.OptimizeGraph(config, model)
        for node in found.node:
            node.device = ""
        return found


def _is_large(variable: Any, dtype: Any) -> bool:
    """Whether a weight is a large matrix, whose values no fusion pattern needs."""
    return len(variable.shape) == 2 and (variable.shape.num_elements() or 0) * dtype.size > _LARGE_BYTES


def _check(graph_def: Any, large: set[str]) -> None:
    """Rejects a graph that transforms large weights independently of any input.

    With known values, TensorFlow would do that once; here it would happen at every call.
    """
    nodes = {node.name: node for node in graph_def.node}
    constant: dict[str, bool] = {}

    def is_constant(name: str) -> bool:
        if name not in constant:
            constant[name] = False  # a circle is a loop
            node = nodes[name]
            sources = [base_name(source) for source in node.input if source[0] != "^"]
            constant[name] = (
                name in large or node.op == "Const" or (bool(sources) and all(map(is_constant, sources)))
            )
        return constant[name]

    for node in graph_def.node:
        sources = {base_name(source) for source in node.input}
        if sources & large and node.op not in _PASSING and is_constant(node.name):
            raise CannotOptimizeError(f"{node.name} ({node.op}) is computed from weights alone")


def _register_functions(graph_def: Any) -> None:
    """Registers the branches and loop bodies that the optimiser wrote, by names of their own.

    The optimiser keeps names where it changes functions, and the unchanged ones are known.
    """
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    functions = graph_def.library.function
    own = {f.signature.name: f"{f.signature.name}_optimized_{ops.uid()}" for f in functions}
    for node in [*graph_def.node, *(node for function in functions for node in function.node_def)]:
        node.op = own.get(node.op, node.op)
        for value in node.attr.values():
            for called in [value.func] if value.HasField("func") else value.list.func:
                called.name = own.get(called.name, called.name)
    for function in functions:
        function.signature.name = own[function.signature.name]
        context.context().add_function_def(function)


def _drop_waiting_for_inputs(graph_def: Any) -> None:
    """Removes control edges from placeholders, which are available from the start."""
    names = {f"^{node.name}" for node in graph_def.node if node.op == "Placeholder"}
    for node in graph_def.node:
        kept = [name for name in node.input if name not in names]
        if len(kept) < len(node.input):
            del node.input[:]
            node.input.extend(kept)

"""Turns a function's matrix weights into constants, which oneDNN packs once and not at every call.

Why, and what it costs, is in ``docs/decisions/constants.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model_bundle.machine import release_free_memory

# GraphDef's limit is 2 GiB, and a graph exists in several copies while it is prepared: stay well below.
MAX_FROZEN_BYTES = 1_600_000_000
# Python takes some tenths of a second to look for what nobody needs.
_WORTH_COLLECTING_BYTES = 10_000_000
# What a value passes through unchanged.
_PASSING = frozenset({"Identity", "StopGradient", "PreventGradient"})

Call = Callable[[Mapping[str, Any]], dict[str, Any]]


class CannotFreezeError(Exception):
    """The function cannot run on constants; the message says why. Variables work still."""


def freeze(concrete: Any) -> Call:
    """Gives a callable that computes what ``concrete`` does, on constants.

    Weights that are only cast to another type become constants of that type. Embedding tables, from which
    rows are gathered, stay variables: as constants they would cost memory and gain nothing. Whatever else is
    captured (lookup tables, variables used inside loops) is bound again. The caller must keep the loaded
    model, which owns them.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.

    Raises:
        CannotFreezeError: too large, or TensorFlow refuses.
    """
    try:
        weights = _Weights(_inlined(concrete), concrete)
        if weights.num_bytes > MAX_FROZEN_BYTES:
            raise CannotFreezeError(f"{weights.num_bytes} bytes of weights, the limit is {MAX_FROZEN_BYTES}")
        call = _rebuild(concrete, weights)
        if weights.num_bytes >= _WORTH_COLLECTING_BYTES:
            # The first run copies the graph several times; what made it should be gone by then.
            release_free_memory(collect=True)
        return call
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise CannotFreezeError(f"{type(error).__name__}: {error}") from error


def _inlined(concrete: Any) -> Any:
    """Gives the function's graph with the functions it calls put in place; variables stay captured."""
    from tensorflow.python.framework import convert_to_constants as converter

    return converter._run_inline_graph_optimization(concrete, False, True)


class _Weights:
    """The values of captured variables that a graph computes with.

    ``constants`` maps the name of a node to its variable and the type it is wanted in: the read itself, or
    the cast that follows it. ``captured`` maps the placeholders that are needed all the same to what is bound
    to them.
    """

    def __init__(self, graph_def: Any, concrete: Any) -> None:
        self.graph_def = graph_def
        self._nodes = {node.name: node for node in graph_def.node}
        handles = {id(variable.handle): variable for variable in concrete.graph.variables}
        captures = {inner.op.name: outer for outer, inner in concrete.graph.captures}
        self._variables = {n: handles[id(outer)] for n, outer in captures.items() if id(outer) in handles}
        self._candidates = self._find()
        self.targets = {name: tensor.name for name, tensor in sorted(concrete.structured_outputs.items())}
        needed = self._walk()
        self.constants = {name: pair for name, pair in self._candidates.items() if name in needed}
        self.captured = {name: outer for name, outer in captures.items() if name in needed}
        self._drop_control_inputs()

    @property
    def num_bytes(self) -> int:
        """The size of the constants."""
        sizes = ((v.shape.num_elements() or 0, dtype.size) for v, dtype in self.constants.values())
        return sum(elements * size for elements, size in sizes)

    def _find(self) -> dict[str, tuple[Any, Any]]:
        """Finds reads of variables and casts of what was read."""
        import tensorflow as tf

        found: dict[str, tuple[Any, Any]] = {}
        for node in self.graph_def.node:
            if node.op not in ("ReadVariableOp", "Cast"):
                continue
            origin = self._origin(node.input[0])
            if node.op == "Cast" and origin in self._nodes and self._nodes[origin].op == "ReadVariableOp":
                origin = self._origin(self._nodes[origin].input[0])
            if origin in self._variables:
                variable = self._variables[origin]
                dtype = tf.as_dtype(node.attr["DstT"].type) if node.op == "Cast" else variable.dtype
                found[node.name] = (variable, dtype)
        return found

    def _origin(self, name: str) -> str:
        """Follows a value back to the node that made it."""
        name = _base(name)
        while name in self._nodes and self._nodes[name].op in _PASSING:
            name = _base(self._nodes[name].input[0])
        return name

    def _walk(self) -> set[str]:
        """Lists the nodes that the outputs depend on once weights are constants."""
        found: set[str] = set()
        waiting = [_base(name) for name in self.targets.values()]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            if name in self._nodes and name not in self._candidates:
                waiting += [_base(source) for source in self._nodes[name].input if not self._is_order(source)]
        return found

    def _is_order(self, name: str) -> bool:
        """Tells whether an input only says "after this read", which a constant makes pointless."""
        return name[0] == "^" and _base(name) in self._candidates

    def _drop_control_inputs(self) -> None:
        """Removes "run after" edges from reads that no longer happen."""
        for node in self.graph_def.node:
            kept = [name for name in node.input if not self._is_order(name)]
            if len(kept) < len(node.input):
                del node.input[:]
                node.input.extend(kept)


def _rebuild(concrete: Any, weights: _Weights) -> Call:
    """Builds the graph again around constants, without ever holding them in a Python message."""
    import tensorflow as tf

    names = {inner.op.name for _, inner in concrete.graph.captures}
    fed = [tensor for tensor in concrete.inputs if tensor.op.name not in names]
    holder: dict[str, Any] = {}

    def build() -> None:
        constants = {
            f"{name}:0": tf.constant(_value(variable, dtype), dtype=dtype)
            for name, (variable, dtype) in weights.constants.items()
        }
        inputs = {t.name: tf.compat.v1.placeholder(t.dtype, t.shape, name=t.op.name) for t in fed}
        bound = {
            f"{name}:0": tf.compat.v1.placeholder(t.dtype, t.shape) for name, t in weights.captured.items()
        }
        holder["outputs"] = tf.graph_util.import_graph_def(
            weights.graph_def,
            input_map=constants | inputs | bound,
            return_elements=list(weights.targets.values()),
            name="frozen",
        )
        holder["feeds"] = [*inputs.values(), *bound.values()]

    wrapped = tf.compat.v1.wrap_function(build, [])
    pruned = wrapped.prune(holder["feeds"], holder["outputs"])
    keys, bound = [tensor.op.name for tensor in fed], list(weights.captured.values())

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(weights.targets, pruned(*(inputs[key] for key in keys), *bound), strict=True))

    return call


def _value(variable: Any, dtype: Any) -> Any:
    import tensorflow as tf

    with tf.init_scope():  # out of the graph that is being built, where variables have no value
        return variable.numpy().astype(dtype.as_numpy_dtype, copy=False)


def _base(name: str) -> str:
    return name.removeprefix("^").split(":")[0]

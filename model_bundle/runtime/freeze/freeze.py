"""Turns a function's matrix weights into constants, which oneDNN packs once instead of at every call.

Reasons and costs are in ``docs/decisions/constants.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_bundle.base.machine import release_free_memory
from model_bundle.runtime.freeze.optimize import Call, build_optimized
from model_bundle.runtime.freeze.weights import Weights, value_of

# GraphDef's limit is 2 GiB, and a graph exists in several copies while it is prepared: stay well below.
MAX_FROZEN_BYTES = 1_600_000_000
# Garbage collection takes some tenths of a second.
_WORTH_COLLECTING_BYTES = 10_000_000


@dataclass(frozen=True)
class Frozen:
    """A function on constants, and the variables that it no longer reads."""

    call: Call
    _replaced: tuple[Any, ...]

    def release_variables(self) -> None:
        """Frees the variables behind the constants; anything else that reads them fails from now on."""
        import tensorflow as tf

        for variable in self._replaced:
            nothing = tf.zeros([0], variable.dtype)
            # Not `assign`, which checks the variable's shape.
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=nothing, validate_shape=False)


class CannotFreezeError(Exception):
    """The function cannot run on constants; the message says why. Variables still work."""


def freeze(concrete: Any, *, optimize_first: bool = False) -> Frozen:
    """Builds the same function as ``concrete``, on constants.

    Weights that are only cast to another type become constants of that type. Embedding tables, from which
    rows are gathered, stay variables: as constants they would cost memory without any gain. Other captures
    (lookup tables, variables used inside loops) are bound again. The caller must keep the loaded model, which
    owns them.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.
        optimize_first: optimise the graph before inserting the weights, which takes a fraction of the memory
            and time. Options set by ``tf.config.optimizer`` are then ignored.

    Raises:
        CannotFreezeError: too large, or not supported by TensorFlow.
    """
    try:
        weights = Weights(concrete)
        if weights.num_bytes > MAX_FROZEN_BYTES:
            raise CannotFreezeError(f"{weights.num_bytes} bytes of weights, the limit is {MAX_FROZEN_BYTES}")
        names = {inner.op.name for _, inner in concrete.graph.captures}
        fed = [tensor for tensor in concrete.inputs if tensor.op.name not in names]
        call = (build_optimized if optimize_first else _rebuild)(weights, fed)
        if weights.num_bytes >= _WORTH_COLLECTING_BYTES:
            # The first run copies the graph several times; intermediate graphs should be freed by then.
            release_free_memory(collect=True)
        return Frozen(call, weights.replaced)
    except (ValueError, TypeError, NotImplementedError, KeyError, AttributeError, RuntimeError) as error:
        raise CannotFreezeError(f"{type(error).__name__}: {error}") from error


def _rebuild(weights: Weights, fed: list[Any]) -> Call:
    """Rebuilds the graph around constants, without ever copying them into a Python message."""
    import tensorflow as tf

    holder: dict[str, Any] = {}

    def build() -> None:
        constants: dict[str, Any] = {}
        for variable, dtype, names in weights.shared:
            value = tf.constant(value_of(variable, dtype), dtype=dtype)
            constants |= {f"{name}:0": value for name in names}
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

"""Turns a function's matrix weights into constants, which oneDNN packs once and not at every call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# GraphDef's limit is 2 GiB; freezing goes through several copies, so stay well below.
MAX_FROZEN_BYTES = 1_600_000_000

Call = Callable[[Mapping[str, Any]], dict[str, Any]]


class CannotFreezeError(Exception):
    """The function cannot run on constants; the message says why. Variables work still."""


def freeze(concrete: Any) -> Call:
    """Gives a callable that computes what ``concrete`` does, on constants.

    Embedding tables, which are only looked up, stay variables: a constant of their size costs memory and
    gains nothing. Other captures (lookup tables) are bound again. The caller must keep the loaded model.

    Args:
        concrete: a ConcreteFunction with keyword inputs and a dict of outputs.

    Raises:
        CannotFreezeError: too large, or TensorFlow refuses.
    """
    from tensorflow.python.framework import convert_to_constants as converter

    tables = _looked_up(concrete)
    weights = [v for v in concrete.graph.variables if id(v.handle) not in {id(t) for t in tables.values()}]
    total = sum(int(v.shape.num_elements() or 0) * v.dtype.size for v in weights)
    if total > MAX_FROZEN_BYTES:
        raise CannotFreezeError(f"{total} bytes of weights, over the limit of {MAX_FROZEN_BYTES}")
    try:
        data = converter._FunctionConverterDataInEager(
            func=concrete,
            lower_control_flow=False,
            aggressive_inlining=True,
            variable_names_denylist=set(tables),
        )
        graph_def, converted = converter._replace_variables_by_constants(converter_data=data)
        return _bind(concrete, graph_def, converted)
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise CannotFreezeError(f"{type(error).__name__}: {error}") from error


def _looked_up(concrete: Any) -> dict[str, Any]:
    """Finds captured variables that rows are gathered from: placeholder name to handle."""
    from tensorflow.python.framework import convert_to_constants as converter

    graph_def = converter._run_inline_graph_optimization(concrete, False, True)
    gathered = {node.input[0].split(":")[0] for node in graph_def.node if node.op == "ResourceGather"}
    captures = ((inner.name.split(":")[0], outer) for outer, inner in concrete.graph.captures)
    return {name: outer for name, outer in captures if name in gathered}


def _bind(concrete: Any, graph_def: Any, converted: set[int]) -> Call:
    from tensorflow.python.eager import context, wrap_function

    kept = [pair for i, pair in enumerate(concrete.graph.captures) if i not in converted]
    fed = [t for t in concrete.inputs if not any(t is inner for _, inner in concrete.graph.captures)]
    for function in graph_def.library.function:
        # The context may hold an older body under the same name.
        if context.context().has_function(function.signature.name):
            context.context().remove_function(function.signature.name)
    names = [tensor.name for tensor in fed] + [inner.name for _, inner in kept]
    order = sorted(concrete.structured_outputs)
    outputs = [concrete.structured_outputs[name].name for name in order]
    wrapped = wrap_function.function_from_graph_def(graph_def, names, outputs)
    extra = [outer for outer, _ in kept]
    keys = [tensor.op.name for tensor in fed]
    for made, original in zip(wrapped.inputs, [*fed, *(inner for _, inner in kept)], strict=True):
        made.set_shape(original.shape)

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        values = wrapped(*(inputs[key] for key in keys), *extra)
        return dict(zip(order, values, strict=True))

    return call

"""Finds the variables that a function reads, and decides which become constants."""

from __future__ import annotations

from typing import Any

# Operations that pass a value through unchanged.
_PASSING = frozenset({"Identity", "StopGradient", "PreventGradient"})


class Weights:
    """The captured variables that a graph computes with.

    ``constants`` maps the name of a node, the read or the cast that follows it, to its variable and type.
    ``captured`` maps the placeholders that are still needed to the tensors bound to them.
    """

    def __init__(self, concrete: Any) -> None:
        from tensorflow.python.framework import convert_to_constants as converter

        # Called functions are inlined; variables stay captured.
        graph_def = self.graph_def = converter._run_inline_graph_optimization(concrete, False, True)
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
    def shared(self) -> list[tuple[Any, Any, list[str]]]:
        """Each variable with a type it is read in, and all nodes that read it so; ALBERT's layers share."""
        found: dict[tuple[int, Any], tuple[Any, Any, list[str]]] = {}
        for name, (variable, dtype) in self.constants.items():
            found.setdefault((id(variable), dtype), (variable, dtype, []))[2].append(name)
        return list(found.values())

    @property
    def num_bytes(self) -> int:
        """The size of the constants as oneDNN packs them: once for each product, however many share one."""
        sizes = ((v.shape.num_elements() or 0, dtype.size) for v, dtype in self.constants.values())
        return sum(elements * size for elements, size in sizes)

    @property
    def replaced(self) -> tuple[Any, ...]:
        """The variables that became constants and that nothing in the graph reads any more."""
        read = {id(outer) for outer in self.captured.values()}
        return tuple(v for v, _ in self.constants.values() if id(v.handle) not in read)

    def _find(self) -> dict[str, tuple[Any, Any]]:
        """Finds reads of variables and casts of such reads."""
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
        """Follows a value back to the node that computed it."""
        name = base_name(name)
        while name in self._nodes and self._nodes[name].op in _PASSING:
            name = base_name(self._nodes[name].input[0])
        return name

    def _walk(self) -> set[str]:
        """Returns the nodes that the outputs depend on once weights are constants."""
        found: set[str] = set()
        waiting = [base_name(name) for name in self.targets.values()]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            if name in self._nodes and name not in self._candidates:
                waiting += [
                    base_name(source) for source in self._nodes[name].input if not self._is_order(source)
                ]
        return found

    def _is_order(self, name: str) -> bool:
        """Whether an input is a control edge that constants make unnecessary.

        That is one from a read of a variable, or from its handle at the start of an inlined function.
        """
        return name[0] == "^" and (base_name(name) in self._candidates or self._is_handle(base_name(name)))

    def _is_handle(self, name: str) -> bool:
        """Whether a node passes on a variable's handle."""
        while name in self._nodes and self._nodes[name].op in _PASSING and len(self._nodes[name].input) == 1:
            name = base_name(self._nodes[name].input[0])
        return name in self._variables

    def _drop_control_inputs(self) -> None:
        """Removes unnecessary control edges."""
        for node in self.graph_def.node:
            kept = [name for name in node.input if not self._is_order(name)]
            if len(kept) < len(node.input):
                del node.input[:]
                node.input.extend(kept)


def value_of(variable: Any, dtype: Any) -> Any:
    """Returns a variable's value as an array of a type."""
    import tensorflow as tf

    with tf.init_scope():  # outside the graph being built, where variables have no value
        return variable.numpy().astype(dtype.as_numpy_dtype, copy=False)


def base_name(name: str) -> str:
    """Returns the node that an input names."""
    return name.removeprefix("^").split(":")[0]

"""Builds a graph again with its matrix products in integers. Import inside functions only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.quantize.saved_model.graph import ModelGraph
from model_bundle.quantize.saved_model.products import Product
from model_bundle.quantize.saved_model.replay import Replay
from model_bundle.runtime.int8_products import (
    LARGEST,
    NARROW,
    Quantized,
    multiply,
    narrow_columns,
    quantize,
    quantize_columns,
    scales_of,
)

_Part = np.ndarray | None


@dataclass(frozen=True)
class _Held:
    """What a module keeps; a class, since TensorFlow would take a dict apart when it saves.

    ``places``: of int8 kernels among the module's variables.
    """

    graph: ModelGraph
    products: Mapping[str, Product]
    plan: Mapping[str, Int8Product]
    places: dict[str, int]


class IntegerGraph(tf.Module):  # type: ignore[misc]  # TensorFlow is not typed
    """A graph whose planned products are of integers; the rest is as it was.

    Args:
        graph: the float graph.
        products: its products, by name.
        plan: how to compute some of them. One with ``inner`` needs that in the plan, too.
        narrow: weights of 7 bits, rounded from the float ones in the graph, instead of int8 variables.
    """

    def __init__(
        self,
        graph: ModelGraph,
        products: Mapping[str, Product],
        plan: Mapping[str, Int8Product],
        *,
        narrow: bool,
    ) -> None:
        super().__init__(name="integer")
        self._held = _Held(graph, products, plan, {})
        self._narrow = narrow
        self._kernels: list[tf.Variable] = []

    def call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Builds the graph in the function that is being traced: tensors by input name to those by output."""
        graph, products, plan = self._held.graph, self._held.products, self._held.plan
        replay = graph.replay(inputs)
        behind = {product.inner: name for name, product in plan.items() if product.inner is not None}
        quantized: dict[tuple[str, int], Quantized] = {}
        shapes: dict[str, Any] = {}
        for name, product in products.items():
            if name not in plan:
                continue
            if name in behind:
                # Its result is never whole, but its shape may be asked for.
                self._set_shapes(replay, product, products[behind[name]].source, shapes)
            elif plan[name].groups:
                flat = self._feed_forward(replay, name, quantized)
                _set(replay, product, flat, shapes)
            else:
                values = self._quantized(replay, name, quantized)
                _set(replay, product, self._multiply(replay, name, values), shapes)
        return {name: replay.tensor(tensor) for name, tensor in graph.outputs.items()}

    def _feed_forward(self, replay: Replay, outer: str, quantized: dict[tuple[str, int], Quantized]) -> Any:
        """Computes both products of a feed-forward layer, a group of inner channels at a time."""
        plan = self._held.plan
        inner = str(plan[outer].inner)
        values, total = self._quantized(replay, inner, quantized), None
        for group in plan[outer].groups:
            hidden = self._multiply(replay, inner, values, columns=group.channels, largest=group.largest)
            total = self._multiply(replay, outer, hidden, rows=group.channels, residual=total)
        return total

    def _quantized(self, replay: Replay, name: str, quantized: dict[tuple[str, int], Quantized]) -> Quantized:
        """Rounds the input of a product, once for all products of it: these share scale and smoothing."""
        entering, product = self._held.products[name].entering, self._held.plan[name]
        if entering not in quantized:
            root, width = entering
            flat = tf.reshape(replay.tensor(root), [-1, width])
            if product.smoothing is not None:
                flat *= tf.constant(product.smoothing)
            quantized[entering] = quantize(flat, product.largest)
        return quantized[entering]

    def _multiply(
        self,
        replay: Replay,
        name: str,
        values: Quantized,
        *,
        rows: _Part = None,
        columns: _Part = None,
        largest: float | None = None,
        residual: Any = None,
    ) -> Any:
        plan = self._held.plan
        product, kernel = self._held.products[name], _cut(plan[name].kernel, rows, columns)
        bias = product.bias
        if bias is None or residual is not None:  # the first group has added it
            bias = np.zeros(product.kernel.shape[1], np.float32)
        if self._narrow:
            scales = scales_of(kernel)
            values8 = narrow_columns(self._float_kernel(replay, name, rows, columns), scales)
            scales = scales * np.float32(LARGEST / NARROW)
        else:
            key = f"{name}/{0 if rows is None else rows[0]}/{0 if columns is None else columns[0]}"
            values8, scales = self._kernel(key, kernel)
        return multiply(
            values,
            values8,
            scales,
            tf.constant(bias if columns is None else bias[columns]),
            activation=product.activation,
            residual=residual,
            largest=largest,
        )

    def _kernel(self, key: str, kernel: np.ndarray) -> tuple[Any, np.ndarray]:
        """Returns an int8 kernel, from a variable that is made at the first call."""
        rounded, scales = quantize_columns(kernel)
        places = self._held.places
        if key not in places:
            with tf.init_scope():
                self._kernels.append(tf.Variable(rounded, name=f"{key}/int8", dtype=tf.int8, trainable=False))
            places[key] = len(self._kernels) - 1
        return self._kernels[places[key]].read_value(), scales

    def _float_kernel(self, replay: Replay, name: str, rows: _Part, columns: _Part) -> Any:
        """Returns the kernel in the graph, from the float weights that the model has anyway."""
        product, smoothing = self._held.products[name], self._held.plan[name].smoothing
        whole = tf.transpose(replay.tensor(product.weight), product.order)
        whole = tf.reshape(whole, product.kernel.shape)
        if smoothing is not None:
            whole /= smoothing[:, np.newaxis]
        whole = whole if rows is None else tf.gather(whole, rows)
        return whole if columns is None else tf.gather(whole, columns, axis=1)

    def _set_shapes(self, replay: Replay, product: Product, last: str, shapes: dict[str, Any]) -> None:
        """Replaces the shape of a product's result, and of what is made of it until ``last``."""
        graph = self._held.graph
        shape, tensor = _shape(replay, product, shapes), product.output
        while True:
            shapes[tensor] = shape
            for node in graph.readers(tensor):
                if node.op == "Shape":
                    dtype = node.attr["out_type"].type if "out_type" in node.attr else tf.int32
                    replay.set(f"{node.name}:0", tf.cast(shape, dtype))
            if tensor == last:
                return
            (node,) = [node for node in graph.readers(tensor) if node.op != "Shape"]
            if node.op == "Reshape":
                shape = tf.cast(replay.tensor(node.input[1]), tf.int32)
            tensor = f"{node.name}:0"


def _set(replay: Replay, product: Product, flat: Any, shapes: Mapping[str, Any]) -> None:
    """Replaces the result of a product, bias and activation included."""
    replay.set(product.output, tf.reshape(flat, _shape(replay, product, shapes)))


def _shape(replay: Replay, product: Product, shapes: Mapping[str, Any]) -> Any:
    """Returns the shape of a product's result: int32[axes]; ``shapes`` has those of tensors never made."""
    if product.reshaped is not None:
        return tf.cast(replay.tensor(product.reshaped), tf.int32)
    source = shapes[product.source] if product.source in shapes else tf.shape(replay.tensor(product.source))
    return tf.concat([source[: -product.contracted], tf.constant(product.free, tf.int32)], axis=0)


def _cut(kernel: np.ndarray, rows: _Part, columns: _Part) -> np.ndarray:
    part = kernel if rows is None else kernel[rows]
    return part if columns is None else part[:, columns]

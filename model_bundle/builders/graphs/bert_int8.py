"""The encoder with int8 matrix products. Import inside functions only: it imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.int8_plan import Int8Product
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

# What a feed-forward layer's activation is called in oneDNN.
_ACTIVATIONS = {"gelu": "GeluExact", "gelu_tanh": "GeluApproximate", "relu": "Relu"}


@dataclass(frozen=True)
class _Dense:
    """A product as it is computed: float32[outputs] and float32[outputs].

    ``kernel``: returns int8[inputs, outputs]; in the graph, from a variable.
    """

    kernel: Callable[[], tf.Tensor]
    scales: np.ndarray
    bias: np.ndarray


class _Layers:
    """Holds the products by name; a class, since TensorFlow would take a dict apart when it saves."""

    def __init__(self, plan: Mapping[str, Int8Product]) -> None:
        self.plan = plan
        self.dense: dict[str, _Dense] = {}


class Int8BertEncoder(BertEncoder):
    """An encoder that shares the float weights of another and computes the planned dense layers in int8.

    Everything else stays float32 except attention's own products, which are in the dtype that ``encode`` is
    called with: TensorFlow has no integer batch product. Scales are constants, so a text's vector does not
    depend on its neighbours.

    Args:
        encoder: the float encoder.
        plan: how to compute dense layers, by name; others stay float. ``ffn/outer`` needs ``ffn/inner``.
    """

    def __init__(self, encoder: BertEncoder, plan: Mapping[str, Int8Product]) -> None:
        tf.Module.__init__(self, name="int8")
        self._config = encoder._config
        self._variables = encoder._variables
        self._layers = _Layers(plan)
        self._int8_variables: list[tf.Variable] = []
        for name, product in plan.items():
            bias = self._variables[f"{name}/bias"].numpy()
            if product.groups:
                self._add_feed_forward(name, product, bias)
            elif f"{name.removesuffix('inner')}outer" not in plan or not name.endswith("/inner"):
                self._add(name, name, bias)

    def drop_float_weights(self) -> None:
        """Forgets the float weights of what is computed in int8, so that they are not stored."""
        unused = {f"{name}/{part}" for name in self._layers.plan for part in ("kernel", "bias")}
        self._variables = {n: value for n, value in self._variables.items() if n not in unused}

    def _add_feed_forward(self, outer: str, product: Int8Product, bias: np.ndarray) -> None:
        """Cuts both kernels of a feed-forward layer into the planned groups of inner channels."""
        inner = _inner_of(outer)
        inner_bias = self._variables[f"{inner}/bias"].numpy()
        for part, group in enumerate(product.groups):
            channels = group.channels
            self._add(f"{inner}/{part}", inner, inner_bias[channels], columns=channels)
            # The bias is added once.
            self._add(f"{outer}/{part}", outer, bias if part == 0 else 0 * bias, rows=channels)

    def _add(
        self,
        name: str,
        layer: str,
        bias: np.ndarray,
        *,
        rows: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> None:
        """Adds a product with some rows or columns of a dense layer's kernel; None means all."""
        values, scales = quantize_columns(_cut(self._layers.plan[layer].kernel, rows, columns))
        variable = tf.Variable(values, name=f"{name}/int8", dtype=tf.int8, trainable=False)
        self._int8_variables.append(variable)
        self._layers.dense[name] = _Dense(variable.read_value, scales, bias)

    def encode(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        dtype: tf.DType = tf.float32,
        types: tf.Tensor | None = None,
    ) -> list[tf.Tensor]:
        """See ``BertEncoder.encode``. ``dtype`` is that of attention's own products."""
        self._attention_dtype = dtype
        return super().encode(ids, mask, tf.float32, types)

    def _attention(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        narrow = self._attention_dtype
        context = super()._attention(layer, flat, shape, tf.cast(scores_bias, narrow), narrow)
        return tf.cast(context, dtype)

    def _dense(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        if name not in self._layers.plan:
            return super()._dense(name, tf.cast(flat, dtype), dtype)
        return self._multiply(name, self._quantize(name, flat), dtype=dtype)

    def _dense_onto(self, name: str, flat: tf.Tensor, residual: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        if name not in self._layers.plan:
            return super()._dense_onto(name, flat, residual, dtype)
        return self._multiply(name, self._quantize(name, flat), residual=residual)

    def _feed_forward_onto(
        self, layer: str, flat: tf.Tensor, residual: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        outer = f"{layer}/ffn/outer"
        inner = _inner_of(outer)
        if inner not in self._layers.plan:
            return super()._feed_forward_onto(layer, flat, residual, dtype)
        activation = _ACTIVATIONS[self._config.activation]
        quantized = self._quantize(inner, flat)
        if outer not in self._layers.plan:
            hidden = self._multiply(inner, quantized, activation=activation)
            return super()._dense_onto(outer, hidden, residual, dtype)
        for part, group in enumerate(self._layers.plan[outer].groups):
            hidden = self._multiply(
                f"{inner}/{part}", quantized, activation=activation, largest=group.largest
            )
            residual = self._multiply(f"{outer}/{part}", hidden, residual=residual)
        return residual

    def _quantize(self, name: str, flat: tf.Tensor) -> Quantized:
        product = self._layers.plan[name]
        if product.smoothing is not None:
            flat *= tf.constant(product.smoothing)
        return quantize(flat, product.largest)

    def _multiply(
        self,
        name: str,
        flat: Quantized,
        *,
        activation: str | None = None,
        residual: tf.Tensor | None = None,
        largest: float | None = None,
        dtype: tf.DType = tf.float32,
    ) -> tf.Tensor | Quantized:
        dense = self._layers.dense[name]
        return multiply(
            flat,
            dense.kernel(),
            dense.scales,
            tf.constant(dense.bias),
            activation=activation,
            residual=residual,
            largest=largest,
            dtype=dtype,
        )


class NarrowBertEncoder(Int8BertEncoder):
    """The same with weights of 7 bits, whose sums fit into 16 bits: for processors without VNNI.

    It has no variables of its own: kernels are rounded from those of the float encoder in the graph, and are
    constants once that is optimised.
    """

    def _add(
        self,
        name: str,
        layer: str,
        bias: np.ndarray,
        *,
        rows: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> None:
        product = self._layers.plan[layer]
        scales = scales_of(_cut(product.kernel, rows, columns))

        def kernel() -> tf.Tensor:
            whole = self._variables[f"{layer}/kernel"].read_value()
            if product.smoothing is not None:
                whole /= product.smoothing[:, np.newaxis]
            part = whole if rows is None else tf.gather(whole, rows)
            return narrow_columns(part if columns is None else tf.gather(part, columns, axis=1), scales)

        self._layers.dense[name] = _Dense(kernel, scales * np.float32(LARGEST / NARROW), bias)


def _cut(kernel: np.ndarray, rows: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray:
    part = kernel if rows is None else kernel[rows]
    return part if columns is None else part[:, columns]


def _inner_of(outer: str) -> str:
    return f"{outer.removesuffix('outer')}inner"

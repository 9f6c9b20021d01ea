"""The encoder with int8 matrix products. Import inside functions only: it imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.runtime.int8_products import Quantized, multiply, quantize, quantize_columns

# What a feed-forward layer's activation is called in oneDNN.
_ACTIVATIONS = {"gelu": "GeluExact", "gelu_tanh": "GeluApproximate", "relu": "Relu"}


@dataclass(frozen=True)
class _Dense:
    """int8[inputs, outputs], float32[outputs] and float32[outputs]: a product as it is computed."""

    kernel: tf.Variable
    scales: np.ndarray
    bias: np.ndarray


class _Layers:
    """Holds the products by name; a class, since TensorFlow would take a dict apart when it saves."""

    def __init__(self, plan: Mapping[str, Int8Product]) -> None:
        self.plan = plan
        self.dense: dict[str, _Dense] = {}

    def add(self, name: str, kernel: np.ndarray, bias: np.ndarray) -> None:
        values, scales = quantize_columns(kernel)
        variable = tf.Variable(values, name=f"{name}/int8", dtype=tf.int8, trainable=False)
        self.dense[name] = _Dense(variable, scales, bias)


class Int8BertEncoder(BertEncoder):
    """An encoder that shares the float weights of another and computes the planned dense layers in int8.

    Everything else, attention's own products included, stays float32: TensorFlow has no integer batch
    product. Scales are constants, so a text's vector does not depend on its neighbours.

    Args:
        encoder: the float encoder.
        plan: how to compute dense layers, by name; others stay float. ``ffn/outer`` needs ``ffn/inner``.
    """

    def __init__(self, encoder: BertEncoder, plan: Mapping[str, Int8Product]) -> None:
        tf.Module.__init__(self, name="int8")
        self._config = encoder._config
        self._variables = encoder._variables
        self._layers = _Layers(plan)
        for name, product in plan.items():
            bias = self._variables[f"{name}/bias"].numpy()
            if product.groups:
                self._add_feed_forward(name, product, bias)
            elif f"{name.removesuffix('inner')}outer" not in plan or not name.endswith("/inner"):
                self._layers.add(name, product.kernel, bias)
        self._int8_variables = [dense.kernel for dense in self._layers.dense.values()]

    def _add_feed_forward(self, outer: str, product: Int8Product, bias: np.ndarray) -> None:
        """Cuts both kernels of a feed-forward layer into the planned groups of inner channels."""
        inner = _inner_of(outer)
        kernel, inner_bias = self._layers.plan[inner].kernel, self._variables[f"{inner}/bias"].numpy()
        for part, group in enumerate(product.groups):
            channels = group.channels
            self._layers.add(f"{inner}/{part}", kernel[:, channels], inner_bias[channels])
            # The bias is added once.
            self._layers.add(f"{outer}/{part}", product.kernel[channels], bias if part == 0 else 0 * bias)

    def _dense(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        if name not in self._layers.plan:
            return super()._dense(name, flat, dtype)
        return self._multiply(name, self._quantize(name, flat))

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
    ) -> tf.Tensor | Quantized:
        dense = self._layers.dense[name]
        return multiply(
            flat,
            dense.kernel,
            dense.scales,
            tf.constant(dense.bias),
            activation=activation,
            residual=residual,
            largest=largest,
        )


def _inner_of(outer: str) -> str:
    return f"{outer.removesuffix('outer')}inner"

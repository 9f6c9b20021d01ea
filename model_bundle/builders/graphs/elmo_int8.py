"""ELMo with int8 products in its LSTMs. Import inside functions only: it imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.elmo import Elmo
from model_bundle.builders.graphs.elmo_lstm import GATES, BidirectionalLstm, Weights
from model_bundle.builders.graphs.elmo_options import DIRECTIONS
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


@dataclass(frozen=True)
class _Planned:
    """The products of one layer by name; a class, since TensorFlow would take a dict apart when it saves."""

    layer: int
    plan: Mapping[str, Int8Product]
    narrow: bool

    def of(self, direction: int, what: str) -> Int8Product | None:
        return self.plan.get(product_name(self.layer, direction, what))


class Int8Elmo(Elmo):
    """A model that shares all weights of another and computes the planned products of its LSTMs in integers.

    Scales are constants, the same at every step, so a text's vectors do not depend on its neighbours.

    Args:
        elmo: the float model.
        plan: by ``product_name``; the kernel of all gates together, in the order of ``GATES``.
        narrow: weights of 7 bits, rounded from the float ones in the graph, instead of int8 variables.
    """

    def __init__(self, elmo: Elmo, plan: Mapping[str, Int8Product], *, narrow: bool) -> None:
        tf.Module.__init__(self, name="int8")
        self.options, self.boundaries = elmo.options, elmo.boundaries
        self._characters, self._caches, self._mix = elmo._characters, elmo._caches, elmo._mix
        self._layers = [
            _Int8Lstm(layer, _Planned(index, plan, narrow)) for index, layer in enumerate(elmo._layers)
        ]


class _Int8Lstm(BidirectionalLstm):
    def __init__(self, layer: BidirectionalLstm, planned: _Planned) -> None:
        tf.Module.__init__(self, name=layer.name)
        self._options, self._adds_input = layer._options, layer._adds_input
        self._directions = layer._directions
        self._planned = planned
        self._int8: list[dict[str, tf.Variable]] = [{} for _ in DIRECTIONS]
        for direction, kernels in enumerate(self._int8 if not planned.narrow else ()):
            for name, part in self._parts(direction).items():
                kernels[name] = tf.Variable(quantize_columns(part)[0], dtype=tf.int8, trainable=False)

    def _parts(self, direction: int) -> dict[str, np.ndarray]:
        """Returns the planned kernels, smoothing included, by the names of the float ones."""
        gates, projection = (self._planned.of(direction, what) for what in ("gates", "projection"))
        found = {} if projection is None else {"projection_kernel": projection.kernel}
        if gates is not None:
            split = zip(GATES, np.split(gates.kernel, len(GATES), axis=1), strict=True)
            found |= {f"{gate}/kernel": part for gate, part in split}
        return found

    def _read(self, direction: int, dtype: tf.DType) -> dict[str, tf.Tensor]:
        weights = super()._read(direction, dtype)
        for name, part in self._parts(direction).items():
            if not self._planned.narrow:
                weights[_int8(name)] = self._int8[direction][name].read_value()
                continue
            whole: tf.Tensor = weights[name]
            product = self._planned.of(direction, "projection" if name == "projection_kernel" else "gates")
            if product is not None and product.smoothing is not None:
                whole = whole / product.smoothing[:, np.newaxis]
            weights[_int8(name)] = narrow_columns(whole, scales_of(part))
        return weights

    def _gates(
        self, direction: int, inputs: tf.Tensor, output: tf.Tensor, weights: Weights
    ) -> list[tf.Tensor]:
        product = self._planned.of(direction, "gates")
        if product is None:
            return super()._gates(direction, inputs, output, weights)
        rounded = _rounded(tf.concat([inputs, output], axis=-1), product)
        parts, found = self._parts(direction), []
        for gate in GATES:
            scales = self._scales(parts[f"{gate}/kernel"])
            total = multiply(rounded, weights[_int8(f"{gate}/kernel")], scales, weights[f"{gate}/bias"])
            found.append(tf.tanh(total) if gate == "candidate" else tf.sigmoid(total))
        return found

    def _project(self, direction: int, output: tf.Tensor, weights: Weights) -> tf.Tensor:
        product = self._planned.of(direction, "projection")
        if product is None:
            return super()._project(direction, output, weights)
        rounded = _rounded(output, product)
        zeros = tf.zeros(self._options.projection_dim)
        return multiply(rounded, weights[_int8("projection_kernel")], self._scales(product.kernel), zeros)

    def _scales(self, kernel: np.ndarray) -> np.ndarray:
        return scales_of(kernel) * np.float32(LARGEST / NARROW if self._planned.narrow else 1.0)


def _rounded(values: tf.Tensor, product: Int8Product) -> Quantized:
    smoothed = values if product.smoothing is None else values * tf.constant(product.smoothing)
    return quantize(smoothed, product.largest)


def _int8(name: str) -> str:
    return f"{name}/int8"


def product_name(layer: int, direction: int, what: str) -> str:
    """Returns the name of a product: ``layer_0/forward/gates`` or ``…/projection``."""
    return f"layer_{layer}/{DIRECTIONS[direction]}/{what}"

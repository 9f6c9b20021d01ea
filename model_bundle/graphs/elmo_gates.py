"""The gates of an LSTM, computed in the way that is fastest for its size. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

# Stored side by side in this order. Source: LSTMCell of TensorFlow 1.
_GATES = ("input", "candidate", "forget", "output")
# Added to the forget gate and not part of the stored bias. Source: the same.
_FORGET_BIAS = 1.0
# Up to this many cells a step is bound by its small operations, above by its weights. Measured, see
# docs/decisions/elmo-recurrence.md.
_MAX_FUSED_CELLS = 2048

Weights = Mapping[str, tf.Tensor]


class Gates(Protocol):
    """How gates come about. ``arrays`` are float32 weights by name; the methods get them as tensors."""

    arrays: dict[str, np.ndarray]

    def prepare(self, inputs: tf.Tensor, weights: Weights, /) -> tf.Tensor:
        """Does what needs no earlier step: [steps, texts, projection_dim] to [steps, texts, any]."""
        ...

    def activate(self, prepared: tf.Tensor, output: tf.Tensor, weights: Weights) -> list[tf.Tensor]:
        """Gives input, candidate, forget and output gate, float32[texts, lstm_dim] each.

        Args:
            prepared: one step of what ``prepare`` gave.
            output: [texts, projection_dim] of the step before.
            weights: the tensors.
        """
        ...


def make_gates(kernel: np.ndarray, bias: np.ndarray) -> Gates:
    """Chooses by size.

    Args:
        kernel: float32[2 * projection_dim, 4 * lstm_dim], for the input over the output of the step before.
        bias: float32[4 * lstm_dim], without the forget bias.
    """
    biases = dict(zip(_GATES, np.split(bias, 4), strict=True))
    biases["forget"] = biases["forget"] + np.float32(_FORGET_BIAS)
    if len(bias) // 4 <= _MAX_FUSED_CELLS:
        return FusedGates(kernel, biases)
    return HoistedGates(kernel, biases)


class FusedGates:
    """One product for each gate, input and output side by side; oneDNN adds bias and activation to it."""

    def __init__(self, kernel: np.ndarray, biases: Mapping[str, np.ndarray]) -> None:
        kernels = zip(_GATES, np.split(kernel, 4, axis=1), strict=True)
        self.arrays = {f"{gate}/kernel": np.ascontiguousarray(part) for gate, part in kernels}
        self.arrays |= {f"{gate}/bias": bias for gate, bias in biases.items()}

    def prepare(self, inputs: tf.Tensor, _weights: Weights, /) -> tf.Tensor:
        """See ``Gates.prepare``: nothing to do."""
        return inputs

    def activate(self, prepared: tf.Tensor, output: tf.Tensor, weights: Weights) -> list[tf.Tensor]:
        """See ``Gates.activate``."""
        both = tf.concat([prepared, output], axis=-1)
        sums = [
            tf.nn.bias_add(tf.matmul(both, weights[f"{gate}/kernel"]), weights[f"{gate}/bias"])
            for gate in _GATES
        ]
        curves = [tf.tanh if gate == "candidate" else tf.sigmoid for gate in _GATES]
        return [tf.cast(curve(total), tf.float32) for curve, total in zip(curves, sums, strict=True)]


class HoistedGates:
    """The input's part of all steps in one product, where weights are read once for many words."""

    def __init__(self, kernel: np.ndarray, biases: Mapping[str, np.ndarray]) -> None:
        from_input, from_output = np.split(kernel, 2)
        bias = np.concatenate([biases[gate] for gate in _GATES])
        self.arrays = {"input_kernel": from_input, "recurrent_kernel": from_output, "bias": bias}

    def prepare(self, inputs: tf.Tensor, weights: Weights, /) -> tf.Tensor:
        """See ``Gates.prepare``: gives [steps, texts, 4 * lstm_dim]."""
        dim, gates = (len(self.arrays[name]) for name in ("input_kernel", "bias"))
        products = tf.matmul(tf.reshape(inputs, [-1, dim]), weights["input_kernel"])
        shape = tf.concat([tf.shape(inputs)[:2], [gates]], axis=0)
        return tf.reshape(tf.nn.bias_add(products, weights["bias"]), shape)

    def activate(self, prepared: tf.Tensor, output: tf.Tensor, weights: Weights) -> list[tf.Tensor]:
        """See ``Gates.activate``."""
        sums = tf.cast(tf.matmul(output, weights["recurrent_kernel"]) + prepared, tf.float32)
        enter, candidate, forget, leave = tf.split(sums, 4, axis=-1)
        return [tf.sigmoid(enter), tf.tanh(candidate), tf.sigmoid(forget), tf.sigmoid(leave)]

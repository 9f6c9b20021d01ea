"""The gates of an LSTM. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

# Stored side by side in this order. Source: LSTMCell of TensorFlow 1.
_GATES = ("input", "candidate", "forget", "output")
# Added to the forget gate and not part of the stored bias. Source: the same.
_FORGET_BIAS = 1.0

Weights = Mapping[str, tf.Tensor]


def gate_arrays(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the weights of each gate by name, those of the forget gate with its constant.

    Args:
        kernel: float32[2 * projection_dim, 4 * lstm_dim], for the input over the output of the step before.
        bias: float32[4 * lstm_dim], without the forget bias.
    """
    kernels = zip(_GATES, np.split(kernel, 4, axis=1), strict=True)
    arrays = {f"{gate}/kernel": np.ascontiguousarray(part) for gate, part in kernels}
    arrays |= {f"{gate}/bias": part for gate, part in zip(_GATES, np.split(bias, 4), strict=True)}
    arrays["forget/bias"] = arrays["forget/bias"] + np.float32(_FORGET_BIAS)
    return arrays


def compute_gates(inputs: tf.Tensor, output: tf.Tensor, weights: Weights) -> list[tf.Tensor]:
    """Returns input, candidate, forget and output gate, float32[texts, lstm_dim] each.

    A product for each gate, then bias and activation in float32 on their own: joined to the product by oneDNN
    they cost more than they save, see docs/decisions/elmo-recurrence.md.

    Args:
        inputs: dtype[texts, projection_dim], one step.
        output: dtype[texts, projection_dim] of the step before.
        weights: what ``gate_arrays`` named; kernels of that dtype, biases float32.
    """
    both = tf.concat([inputs, output], axis=-1)
    gates = []
    for gate in _GATES:
        total = tf.cast(tf.matmul(both, weights[f"{gate}/kernel"]), tf.float32) + weights[f"{gate}/bias"]
        gates.append(tf.tanh(total) if gate == "candidate" else tf.sigmoid(total))
    return gates

"""From the states of an encoder's last layer to one vector: the modules of sentence-transformers, as a graph.

Import this module inside functions only: it imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from model_bundle.bundle.specs import SentenceSpec
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph

# The names of variables begin so.
PREFIX = "sentence/"
# Source: the default of torch.nn.LayerNorm, which the module does not change.
_NORM_EPSILON = 1e-5
ACTIVATIONS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "identity": tf.identity,
    "tanh": tf.tanh,
    "relu": tf.nn.relu,
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "silu": tf.nn.silu,
    "sigmoid": tf.sigmoid,
    "elu": tf.nn.elu,
    "leakyrelu": lambda x: tf.nn.leaky_relu(x, alpha=0.01),
    "softplus": tf.nn.softplus,
    "mish": lambda x: x * tf.tanh(tf.nn.softplus(x)),
}


class SentenceHead(tf.Module):
    """Poolings, joined, and the modules after them; always in float32, since they are small.

    Args:
        spec: what is computed.
        weights: float32 arrays: ``I/kernel`` [inputs, outputs] and ``I/bias`` of the module I if it is
            dense, ``I/gamma`` and ``I/beta`` if it is a layer norm.
    """

    def __init__(self, spec: SentenceSpec, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(name="sentence")
        self.spec = spec
        self._variables = {
            name: tf.Variable(value, name=f"{PREFIX}{name}", dtype=tf.float32)
            for name, value in weights.items()
        }

    def embed(self, states: tf.Tensor, mask: tf.Tensor, skipped: tf.Tensor | None) -> tf.Tensor:
        """Computes the vector of each text.

        Args:
            states: float32[texts, tokens, dim], of the last layer.
            mask: int32[texts, tokens], 1 on real tokens. Padding is at the end.
            skipped: int32[texts], tokens at the start that are not pooled; None means 0.

        Returns:
            float32[texts, dim of the last module].
        """
        lengths = tf.reduce_sum(mask, axis=1)
        pooled = [pool_in_graph(states, lengths, pooling, skipped) for pooling in self.spec.poolings]
        vectors = tf.concat(pooled, axis=-1)
        for index, module in enumerate(self.spec.modules):
            if module.kind == "dense":
                product = tf.matmul(vectors, self._variables[f"{index}/kernel"])
                product = tf.nn.bias_add(product, self._variables[f"{index}/bias"])
                vectors = ACTIVATIONS[module.activation or "identity"](product)
            elif module.kind == "layer_norm":
                vectors = self._norm(index, vectors)
            else:
                vectors = normalize_in_graph(vectors)
        return vectors if self.spec.truncate_dim is None else vectors[:, : self.spec.truncate_dim]

    def _norm(self, index: int, vectors: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(vectors, axes=[-1], keepdims=True)
        normed = (vectors - mean) * tf.math.rsqrt(variance + _NORM_EPSILON)
        return normed * self._variables[f"{index}/gamma"] + self._variables[f"{index}/beta"]

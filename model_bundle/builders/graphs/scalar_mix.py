"""The weighted sum of layers that makes one ELMo vector of several. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class ScalarMix(tf.Module):
    """Sums layers with one factor each, and scales the sum.

    Args:
        layer_weights: final factors, one for each layer, the word vectors first. No softmax is applied.
        gamma: the scale.

    Source: Peters et al., arXiv:1802.05365, equation 1. Both are variables, as the four trainable numbers of
    the TF-Hub modules were, so that a model built on top can train them.
    """

    def __init__(self, layer_weights: Sequence[float], gamma: float) -> None:
        super().__init__(name="aggregation")
        self._weights = tf.Variable(layer_weights, dtype=tf.float32, name="weights")
        self._scaling = tf.Variable(gamma, dtype=tf.float32, name="scaling")

    def mix(self, layers: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns float32[..., dim] from as many tensors of that shape as there are layer weights."""
        factors = tf.unstack(self._weights * self._scaling, num=len(layers))
        return tf.add_n([layer * factor for layer, factor in zip(layers, factors, strict=True)])

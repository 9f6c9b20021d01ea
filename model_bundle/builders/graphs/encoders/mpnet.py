"""MPNet's graph: BERT's with a bias of the scores. Import inside functions only: it imports TensorFlow."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder

# From this distance on, all positions share a bucket. Source: relative_position_bucket of MPNetEncoder.
_FAR = 128


class MPNetEncoder(BertEncoder):
    """BERT whose scores depend on how far apart two tokens are: a table of buckets for all layers."""

    def _scores_bias(self, mask: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Returns what is added to the scores of every layer: [texts * heads, 1, tokens, tokens]."""
        masked = super()._scores_bias(mask, dtype)
        reach = self._config.max_positions - 1
        buckets = position_buckets(np.arange(-reach, reach + 1), self._config.relative_buckets)
        table = tf.cast(self._variables["embeddings/relative_bias"], dtype)
        by_distance = tf.transpose(tf.gather(table, buckets))
        places = tf.range(tf.shape(mask)[1])
        distances = places[tf.newaxis, :] - places[:, tf.newaxis] + reach
        bias = tf.gather(by_distance, distances, axis=1)[tf.newaxis] + masked
        return _folded(bias)

    def _scores(self, query: tf.Tensor, key: tf.Tensor, scores_bias: tf.Tensor) -> tf.Tensor:
        scores = super()._scores(_folded(query), _folded(key), scores_bias)
        return tf.reshape(scores, tf.concat([tf.shape(query)[:3], tf.shape(key)[2:3]], axis=0))


def _folded(heads: tf.Tensor) -> tf.Tensor:
    """Reshapes every head into a text of its own: a bias is fused only if it is the same for all heads."""
    shape = tf.shape(heads)
    last = heads.shape[-1] or shape[3]
    return tf.reshape(heads, tf.stack([shape[0] * shape[1], 1, shape[2], last]))


def position_buckets(distances: np.ndarray, num_buckets: int) -> np.ndarray:
    """Returns the bucket of each distance, from a token to the one it looks at: int32[distances].

    Half of the buckets are for tokens before, half for those after; of each half, half are for one distance
    each and the rest for ranges that grow with the logarithm of the distance.

    Source: relative_position_bucket of MPNetEncoder in transformers, in float32 as there.
    """
    half = num_buckets // 2
    exact = half // 2
    away = np.abs(distances)
    steps = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(_FAR / exact)
    )
    far = np.minimum(exact + (steps * np.float32(half - exact)).astype(np.int32), half - 1)
    found: np.ndarray = np.where(away < exact, away, far) + half * (distances > 0)
    return found.astype(np.int32)

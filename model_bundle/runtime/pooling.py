"""Pools token states to one vector: a NumPy reference, and the same inside a TensorFlow graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_bundle.bundle.specs import Pooling
from model_bundle.errors import ModelBundleError


class ShapeError(ModelBundleError):
    """Arrays that belong together have incompatible shapes."""


class EmptyTextError(ModelBundleError):
    """A text has no real token; a zero vector would look like a result."""


def pool(states: np.ndarray, mask: np.ndarray, pooling: Pooling) -> np.ndarray:
    """Pools the real-token states of each text to one vector.

    Args:
        states: float32[texts, tokens, dim]. Padded positions may hold anything, NaN included.
        mask: int32[texts, tokens]. 1 on real tokens, 0 on padding, which is at the end.
        pooling: any but ``pooler``.

    Returns:
        float32[texts, dim]. Not normalised.

    Raises:
        ShapeError: ``mask`` does not match the first two axes of ``states``.
        EmptyTextError: a text has no real token.

    Source: the pooling strategies of Sentence-BERT, section 3, arXiv:1908.10084.
    """
    if states.ndim != 3 or mask.shape != states.shape[:2]:
        raise ShapeError(f"states {states.shape} need a mask {states.shape[:2]}, got {mask.shape}")
    lengths = mask.sum(axis=1)
    if not lengths.all():
        raise EmptyTextError(f"texts {np.flatnonzero(lengths == 0).tolist()} have no real token to pool")
    real = mask[:, :, np.newaxis] > 0
    if pooling is Pooling.FIRST:
        vectors = states[:, 0]
    elif pooling is Pooling.LAST:
        vectors = states[np.arange(len(states)), lengths - 1]
    elif pooling is Pooling.MAX:
        vectors = np.where(real, states, -np.inf).max(axis=1)
    else:
        weights = np.where(real, 1.0, 0.0)
        if pooling is Pooling.WEIGHTED_MEAN:
            weights = weights * np.arange(1, states.shape[1] + 1)[:, np.newaxis]
        total = weights.sum(axis=1)
        divisor = np.sqrt(total) if pooling is Pooling.MEAN_SQRT_LEN else total
        vectors = (np.where(real, states, 0.0) * weights).sum(axis=1, dtype=np.float64) / divisor
    return np.asarray(vectors, dtype=np.float32)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales float32[texts, dim] to length 1; a zero vector stays zero, as in PyTorch's ``normalize``."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def pool_in_graph(states: Any, lengths: Any, pooling: Pooling, skipped: Any = None) -> Any:
    """Does the same as ``pool`` on tensors; no tokens give zeros.

    Args:
        states: float32[texts, tokens, dim].
        lengths: int32[texts], real tokens of each text.
        pooling: any but ``pooler``.
        skipped: int32[texts], tokens at the start that are not pooled, at most all but the last; None means
            0. They count for the weights of ``weighted_mean``.
    """
    import tensorflow as tf

    is_real = (lengths > 0)[:, tf.newaxis]
    start = 0 if skipped is None else tf.clip_by_value(skipped, 0, tf.maximum(lengths - 1, 0))
    if pooling is Pooling.FIRST:
        first = states[:, 0] if skipped is None else tf.gather(states, start, batch_dims=1)
        return tf.where(is_real, first, 0.0)
    if pooling is Pooling.LAST:
        last = tf.gather(states, tf.maximum(lengths - 1, 0), batch_dims=1)
        return tf.where(is_real, last, 0.0)
    real = tf.sequence_mask(lengths, tf.shape(states)[1])[:, :, tf.newaxis]
    if skipped is not None:
        real &= ~tf.sequence_mask(start, tf.shape(states)[1])[:, :, tf.newaxis]
    if pooling is Pooling.MAX:
        highest = tf.reduce_max(tf.where(real, states, states.dtype.min), axis=1)
        return tf.where(is_real, highest, 0.0)
    kept = tf.where(real, states, 0.0)
    count = tf.cast(tf.maximum(lengths - start, 1), tf.float32)[:, tf.newaxis]
    if pooling is Pooling.WEIGHTED_MEAN:
        weights = tf.range(1.0, tf.cast(tf.shape(states)[1], tf.float32) + 1.0)[tf.newaxis, :, tf.newaxis]
        kept *= weights
        count = tf.maximum(tf.reduce_sum(tf.where(real, weights, 0.0), axis=1), 1.0)
    return tf.reduce_sum(kept, axis=1) / (tf.sqrt(count) if pooling is Pooling.MEAN_SQRT_LEN else count)


def normalize_in_graph(vectors: Any) -> Any:
    """Does the same as ``normalize`` on tensors."""
    import tensorflow as tf

    return vectors / tf.maximum(tf.norm(vectors, axis=-1, keepdims=True), 1e-12)

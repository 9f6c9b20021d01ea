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
        pooling: ``mean``, ``max``, ``first`` or ``last``.

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
        vectors = np.where(real, states, 0.0).sum(axis=1, dtype=np.float64) / lengths[:, np.newaxis]
    return np.asarray(vectors, dtype=np.float32)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales float32[texts, dim] to length 1; a zero vector stays zero, as in PyTorch's ``normalize``."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def pool_in_graph(states: Any, lengths: Any, pooling: Pooling) -> Any:
    """Does the same as ``pool`` on tensors, by real lengths int32[texts]; no tokens give zeros."""
    import tensorflow as tf

    if pooling is Pooling.FIRST:
        return tf.where((lengths > 0)[:, tf.newaxis], states[:, 0], 0.0)
    if pooling is Pooling.LAST:
        last = tf.gather(states, tf.maximum(lengths - 1, 0), batch_dims=1)
        return tf.where((lengths > 0)[:, tf.newaxis], last, 0.0)
    real = tf.sequence_mask(lengths, tf.shape(states)[1])[:, :, tf.newaxis]
    if pooling is Pooling.MAX:
        highest = tf.reduce_max(tf.where(real, states, states.dtype.min), axis=1)
        return tf.where((lengths > 0)[:, tf.newaxis], highest, 0.0)
    total = tf.reduce_sum(tf.where(real, states, 0.0), axis=1)
    return total / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]


def normalize_in_graph(vectors: Any) -> Any:
    """Does the same as ``normalize`` on tensors."""
    import tensorflow as tf

    return vectors / tf.maximum(tf.norm(vectors, axis=-1, keepdims=True), 1e-12)

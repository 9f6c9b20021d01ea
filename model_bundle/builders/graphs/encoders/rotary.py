"""Rotary positions: each pair of numbers of a query or key is turned by an angle that its position sets.

A pair is one complex number and turning it is one product, which TensorFlow runs as one kernel; written with
sines and cosines it is five, each of which reads and writes all queries and keys. So the columns of the
query's and key's weights are put in an order where pairs are neighbours: a product of a query and a key stays
what it was. Measured in ``docs/decisions/attention.md``.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def paired_columns(num_heads: int, size: int) -> np.ndarray:
    """Returns the order of columns that makes neighbours of the pairs of a head: int64[num_heads * size].

    A head's first half has the real parts, its second the imaginary ones.
    """
    half = np.arange(size // 2)
    within = np.stack([half, half + size // 2], axis=1).reshape(-1)
    return np.concatenate([head * size + within for head in range(num_heads)])


def turns(num_tokens: tf.Tensor, theta: float, size: int, num_heads: int) -> tf.Tensor:
    """Returns complex64[tokens * num_heads * size / 2]: what turns each pair of all heads, by position.

    Source: Su et al., arXiv:2104.09864. Frequencies are rounded to float32 as in transformers: at position
    8,000, one rounding more shows in the fourth digit of an angle.
    """
    exponents = (np.arange(0, size, 2) / np.float32(size)).astype(np.float32)
    powers = np.power(np.float64(np.float32(theta)), exponents.astype(np.float64)).astype(np.float32)
    frequencies = np.float32(1) / powers
    angles = tf.cast(tf.range(num_tokens), tf.float32)[:, tf.newaxis] * tf.constant(frequencies)
    turn = tf.complex(tf.cos(angles), tf.sin(angles))
    return tf.reshape(tf.tile(turn, [1, num_heads]), [-1])


def turned(flat: tf.Tensor, turn: tf.Tensor, num_texts: tf.Tensor) -> tf.Tensor:
    """Turns queries or keys in float32, whatever their type.

    Args:
        flat: [texts * tokens, width], pairs next to each other.
        turn: complex64[tokens * width / 2], of ``turns``.
        num_texts: int32.
    """
    wide = tf.reshape(tf.cast(flat, tf.float32), tf.stack([num_texts, -1, 2]))
    pairs = tf.bitcast(wide, tf.complex64) * turn
    return tf.cast(tf.reshape(tf.bitcast(pairs, tf.float32), tf.shape(flat)), flat.dtype)

"""Vectors of words that were computed before. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


class WordCache(tf.Module):
    """Keeps the vectors of words, which do not depend on context, from call to call.

    Text repeats its words: a quarter of a model's work, and more in a small one, is spelling them. The first
    words that come are kept until there is no room; those are the frequent ones.

    Args:
        dim: numbers in a vector.
        max_words: how many are kept.
    """

    def __init__(self, dim: int, max_words: int) -> None:
        super().__init__(name="word_cache")
        self._dim = dim
        self._max_words = max_words
        # The last number of a row tells that it is there. Anonymous, because tables of one name are one table
        # for the whole process, and two models must not share theirs.
        self._table = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.float32, tf.zeros([dim + 1]), experimental_is_anonymous=True
        )

    def look_up(self, words: tf.Tensor, compute: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Returns vectors, computing those that are not kept.

        Args:
            words: string[words], each once.
            compute: makes float32[n, dim] of string[n], n > 0; the same for a word whatever the others are.

        Returns:
            float32[words, dim].
        """
        rows = tf.ensure_shape(self._table.lookup(words), [None, self._dim + 1])
        is_new = tf.equal(rows[:, -1], 0.0)
        new = tf.boolean_mask(words, is_new)

        def complete() -> tf.Tensor:
            computed = tf.pad(compute(new), [[0, 0], [0, 1]], constant_values=1.0)
            room = tf.maximum(self._max_words - tf.cast(self._table.size(), tf.int32), 0)
            with tf.control_dependencies([self._table.insert(new[:room], computed[:room])]):
                return tf.tensor_scatter_nd_update(rows, tf.where(is_new), computed)

        return tf.cond(tf.size(new) > 0, complete, lambda: rows)[:, :-1]

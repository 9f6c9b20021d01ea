"""Attention of long texts in bounded memory, and attention to near tokens alone.

The scores of all tokens with all tokens need the square of a text's length: 3.2 GB for a layer of 12 heads
and 8,192 tokens. Here they exist for some queries at a time, or only for keys that are near enough.
Measured in ``docs/decisions/attention.md``.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# Added to the scores of what is not attended to. Large enough for a softmax of exactly 0, small enough for
# bfloat16.
MASKED = -1e9
# Texts of more tokens are computed in blocks. Below, all scores at once are faster and no larger than the
# states of the dense layers.
MAX_AT_ONCE = 1024
# The same where tokens see only near ones: blocks then save most of the products, too. See ``near_at_once``.
_MAX_NEAR_AT_ONCE = 384
# Queries per block of global attention: of 8,192 tokens and 12 heads, 100 MB of scores.
_QUERIES = 256
# Tokens per block of local attention, unless tokens see further.
_LEAST_BLOCK = 64


def near_at_once(reach: int) -> int:
    """Returns up to how many tokens all scores are computed at once, where tokens see ``reach`` around them.

    Blocks of that width would be no smaller than two of them.
    """
    return max(_MAX_NEAR_AT_ONCE, 2 * reach)


def padding_bias(mask: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns ``dtype``[texts, 1, 1, tokens] to add to scores: 0 on real tokens.

    Gets its axes last: if the bias is itself a product, TensorFlow takes it for the scaled scores and fuses
    neither.
    """
    bias = tf.cast(1 - mask, dtype) * tf.constant(MASKED, dtype)
    return bias[:, tf.newaxis, tf.newaxis, :]


def band_bias(mask: tf.Tensor, reach: int, dtype: tf.DType) -> tf.Tensor:
    """Returns ``dtype``[texts, 1, tokens, tokens]: 0 on real tokens at most ``reach`` away."""
    positions = tf.range(tf.shape(mask)[1])
    near = tf.abs(positions[:, tf.newaxis] - positions) <= reach
    seen = tf.logical_and(near, tf.cast(mask, tf.bool)[:, tf.newaxis, :])
    return tf.where(seen, tf.constant(0, dtype), tf.constant(MASKED, dtype))[:, tf.newaxis]


def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Computes attention with all scores at once.

    Args:
        query: [texts, heads, queries, size].
        key, value: [texts, heads, keys, size].
        bias: [texts, 1, 1 or queries, keys].

    Returns:
        [texts, heads, queries, size].
    """
    # Product, scaling by a constant, and bias, in this order, are fused to one oneDNN kernel.
    scale = tf.constant(1.0 / np.sqrt(query.shape[-1]), query.dtype)
    scores = tf.matmul(query, key, transpose_b=True) * scale + bias
    return tf.matmul(tf.nn.softmax(scores), value)


def attend_any(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Computes attention at once, or in blocks if texts are long: by their length alone, not their number."""
    return tf.cond(
        tf.shape(query)[2] > MAX_AT_ONCE,
        lambda: attend_by_queries(query, key, value, bias),
        lambda: attend(query, key, value, bias),
    )


def attend_by_queries(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Computes the same as ``attend``, some queries at a time, so that memory grows linearly.

    ``bias`` is [texts, 1, 1, keys]. Every query sees all keys, so no sums have to be put together.
    """
    texts, heads, size = tf.shape(query)[0], query.shape[1], query.shape[3]
    num_queries = tf.shape(query)[2]
    num_blocks = -(-num_queries // _QUERIES)
    padded = tf.pad(query, [[0, 0], [0, 0], [0, num_blocks * _QUERIES - num_queries], [0, 0]])
    found = tf.TensorArray(query.dtype, size=num_blocks, element_shape=[None, heads, _QUERIES, size])

    def step(block: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        part = tf.slice(padded, [0, 0, block * _QUERIES, 0], [-1, -1, _QUERIES, -1])
        part = tf.ensure_shape(part, [None, heads, _QUERIES, size])
        return block + 1, found.write(block, attend(part, key, value, bias))

    _, found = tf.while_loop(
        lambda block, _: block < num_blocks, step, [tf.constant(0), found], parallel_iterations=1
    )
    blocks = tf.transpose(found.stack(), [1, 2, 0, 3, 4])
    return tf.reshape(blocks, [texts, heads, num_blocks * _QUERIES, size])[:, :, :num_queries]


def attend_near(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor, reach: int) -> tf.Tensor:
    """Computes attention to tokens at most ``reach`` away, and no other scores than those of three blocks.

    A block has at least ``reach`` tokens: its queries see keys of itself and of the blocks before and after
    it. Blocks are computed as texts of their own.

    Args:
        query: [texts, heads, tokens, size], as ``key`` and ``value``.
        key: see ``query``.
        value: see ``query``.
        mask: int32[texts, tokens], 1 on real tokens.
        reach: in tokens.

    Returns:
        [texts, heads, tokens, size].
    """
    texts, heads, size = tf.shape(query)[0], query.shape[1], query.shape[3]
    tokens = tf.shape(query)[2]
    width = max(reach, _LEAST_BLOCK)
    num_blocks = -(-tokens // width)
    after = num_blocks * width - tokens

    def blocks_of(states: tf.Tensor, beyond: int) -> tf.Tensor:
        """Returns [texts, blocks, heads, width, size], with ``beyond`` empty blocks at each end."""
        around = [beyond * width, after + beyond * width]
        padded = tf.pad(states, [[0, 0], [0, 0], around, [0, 0]])
        split = tf.reshape(padded, [texts, heads, num_blocks + 2 * beyond, width, size])
        return tf.transpose(split, [0, 2, 1, 3, 4])

    def with_neighbours(states: tf.Tensor) -> tf.Tensor:
        blocks = blocks_of(states, 1)
        joined = tf.concat([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], axis=3)
        return tf.reshape(joined, [texts * num_blocks, heads, 3 * width, size])

    queries = tf.reshape(blocks_of(query, 0), [texts * num_blocks, heads, width, size])
    bias = _block_bias(mask, num_blocks, after, width, reach, query.dtype)
    found = attend(queries, with_neighbours(key), with_neighbours(value), bias)
    found = tf.transpose(tf.reshape(found, [texts, num_blocks, heads, width, size]), [0, 2, 1, 3, 4])
    return tf.reshape(found, [texts, heads, num_blocks * width, size])[:, :, :tokens]


def _block_bias(
    mask: tf.Tensor, num_blocks: tf.Tensor, after: tf.Tensor, width: int, reach: int, dtype: tf.DType
) -> tf.Tensor:
    """Returns [texts * blocks, 1, width, 3 * width]: which of three blocks of keys a query sees."""
    texts = tf.shape(mask)[0]
    real = tf.pad(mask, [[0, 0], [width, after + width]])
    real = tf.cast(tf.reshape(real, [texts, num_blocks + 2, width]), tf.bool)
    real = tf.concat([real[:, :-2], real[:, 1:-1], real[:, 2:]], axis=2)
    real = tf.reshape(real, [texts * num_blocks, 1, 1, 3 * width])
    distance = np.arange(3 * width) - width - np.arange(width)[:, np.newaxis]
    seen = tf.logical_and(tf.constant(np.abs(distance) <= reach), real)
    return tf.where(seen, tf.constant(0, dtype), tf.constant(MASKED, dtype))

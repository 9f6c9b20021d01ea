"""DeBERTa as a TensorFlow graph: scores of contents, and of contents with relative positions.

The vectors of relative positions are weights alone, so they are computed when the encoder is built. At run
time each distance that occurs in a text has a column of scores, and a shift puts it where it belongs.
Measured in ``docs/decisions/attention.md``.
Import this module inside functions only: it imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import ACTIVATIONS, BertEncoder
from model_bundle.builders.graphs.encoders.deberta_config import DebertaConfig


class DebertaEncoder(BertEncoder):
    """An encoder whose ``encode`` returns the states of every layer.

    Source: He et al., arXiv:2006.03654 and arXiv:2111.09543.
    """

    _config: DebertaConfig

    def encode(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        dtype: tf.DType = tf.float32,
        types: tf.Tensor | None = None,
    ) -> list[tf.Tensor]:
        """Computes the states of every layer. See ``BertEncoder.encode``."""
        config, shape = self._config, tf.shape(ids)
        seen = self._scores_bias(mask, dtype)
        flat = self._embed(ids, dtype, types)
        states = [flat]
        for index in range(config.num_layers):
            attended = self._layer(f"layer_{index}", flat, shape, seen, dtype)
            beside = self._convolved(flat, attended, mask, dtype) if config.conv_width and not index else None
            flat = attended if beside is None else beside
            states.append(flat)
        full = tf.concat([shape, [config.dim]], axis=0)
        return [tf.reshape(tf.cast(state, tf.float32), full) for state in states]

    def _embed(self, ids: tf.Tensor, dtype: tf.DType, types: tf.Tensor | None) -> tf.Tensor:
        if self._config.has_positions:
            return super()._embed(ids, dtype, types)
        total = self._words(ids)
        if self._config.num_types:
            table = self._variables["embeddings/type"]
            total += table[0] if types is None else tf.gather(table, types)
        flat = tf.cast(tf.reshape(total, [-1, self._config.dim]), dtype)
        return self._norm("embeddings/norm", flat, dtype)

    def _attention(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        heads, (texts, tokens) = self._config.num_heads, tf.unstack(shape)
        size = self._config.dim // heads
        qkv = tf.reshape(self._dense(f"{layer}/attention/qkv", flat, dtype), [texts, tokens, 3, heads, size])
        # Heads come before texts, so that one product per head computes the scores of all texts' positions.
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 3, 0, 1, 4]))
        bias = self._position_scores(layer, query, key, scores_bias[tf.newaxis, :, 0], dtype)
        # A bias is fused with the product before it only if its second axis is 1.
        apart = tf.stack([heads * texts, 1, tokens, size])
        query, key, value = (tf.reshape(part, apart) for part in (query, key, value))
        scores = tf.matmul(query, key, transpose_b=True) * tf.constant(_scale(self._config), dtype)
        scores += tf.reshape(bias, [heads * texts, 1, tokens, tokens])
        context = tf.reshape(tf.matmul(tf.nn.softmax(scores), value), [heads, texts, tokens, size])
        # Uses the shape of what it is added to, so that TensorFlow sees that both are equal.
        return tf.reshape(tf.transpose(context, [1, 2, 0, 3]), tf.shape(flat))

    def _position_scores(
        self, layer: str, query: tf.Tensor, key: tf.Tensor, seen: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        """Returns what is added to the scores of contents: [heads, texts, tokens, tokens].

        ``query`` and ``key`` are [heads, texts, tokens, size], ``seen`` [1, texts, 1, tokens].
        """
        tokens, bias = tf.shape(query)[2], seen
        if not self._config.position_to_content and not self._config.content_to_position:
            return tf.tile(seen, [self._config.num_heads, 1, tokens, 1])
        if self._config.position_to_content:
            columns = self._columns(f"{layer}/attention/position_query", tokens, dtype, ascending=True)
            # The rows are those of keys here.
            bias += tf.transpose(_shifted(key, columns), [0, 1, 3, 2])
        if self._config.content_to_position:
            columns = self._columns(f"{layer}/attention/position_key", tokens, dtype, ascending=False)
            bias += _shifted(query, columns)
        return bias

    def _stored(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        weights = _separate(self._config, weights)
        kept = {
            name: value
            for name, value in super()._stored(weights).items()
            if not name.startswith("relative/") and "/attention/position_" not in name
        }
        if self._config.conv_width:
            kept["conv/kernel"] = kept["conv/kernel"].reshape(-1, self._config.dim)
        return kept | _position_tables(self._config, weights)

    def _columns(self, name: str, tokens: tf.Tensor, dtype: tf.DType, *, ascending: bool) -> tf.Tensor:
        """Returns [heads, size, 2 * tokens]: the vector of each distance in a text, and one that is unused.

        Distances go from ``-(tokens - 1)`` upwards, or from ``tokens - 1`` downwards.
        """
        middle, rows = self._config.max_positions, self._config.relative_rows()
        rows = tf.constant(rows if ascending else rows[::-1].copy())[
            middle - tokens + 1 : middle + tokens + 1
        ]
        vectors = tf.cast(tf.gather(self._variables[name], rows), dtype)
        split = tf.reshape(vectors, [2 * tokens, self._config.num_heads, -1])
        return tf.transpose(split, [1, 2, 0])

    def _convolved(self, below: tf.Tensor, above: tf.Tensor, mask: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Adds a convolution of the embeddings to the states of the first layer."""
        width, dim = self._config.conv_width, self._config.dim
        full = tf.concat([tf.shape(mask), [dim]], axis=0)
        real = tf.cast(mask, dtype)[:, :, tf.newaxis]
        padded = tf.pad(tf.reshape(below, full) * real, [[0, 0], [width // 2, width // 2], [0, 0]])
        taps = [padded[:, tap : tap + full[1]] for tap in range(width)]
        joined = tf.reshape(tf.concat(taps, axis=2), [-1, width * dim])
        inner = ACTIVATIONS[self._config.conv_activation](self._dense("conv", joined, dtype))
        return self._norm("conv/norm", above + inner, dtype)


def _scale(config: DebertaConfig) -> float:
    return float(1.0 / np.sqrt(config.dim // config.num_heads * config.score_terms))


def _shifted(states: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Scores states with the vectors of distances, and moves each row so that columns are tokens.

    Token j is column ``j - i + tokens - 1`` in row i. Read with rows one shorter than they are, each row
    begins one column earlier than the one before.

    Args:
        states: [heads, texts, tokens, size].
        columns: [heads, size, 2 * tokens].

    Returns:
        [heads, texts, tokens, tokens].
    """
    heads, size = columns.shape[0], states.shape[3]
    texts, tokens = tf.shape(states)[1], tf.shape(states)[2]
    scores = tf.matmul(tf.reshape(states, [heads, texts * tokens, size]), columns)
    scores = tf.reshape(scores, [heads, texts, 2 * tokens * tokens])
    moved = tf.slice(scores, [0, 0, tokens - 1], tf.stack([-1, -1, tokens * (2 * tokens - 1)]))
    return tf.reshape(moved, [heads, texts, tokens, 2 * tokens - 1])[..., :tokens]


def _separate(config: DebertaConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the weights of the first version as those of the second; others as they are.

    There, each head's query, key and value are next to each other, and keys have no bias.
    """
    found = dict(weights)
    if not config.joined:
        return found
    none = np.zeros(config.dim, np.float32)
    for index in range(config.num_layers):
        attention = f"layer_{index}/attention"
        joined = found.pop(f"{attention}/joined/kernel").reshape(config.dim, config.num_heads, 3, -1)
        biases = (found.pop(f"{attention}/query_bias"), none, found.pop(f"{attention}/value_bias"))
        for part, (name, bias) in enumerate(zip(("query", "key", "value"), biases, strict=True)):
            found[f"{attention}/{name}/kernel"] = joined[:, :, part].reshape(config.dim, config.dim)
            found[f"{attention}/{name}/bias"] = bias
        if f"{attention}/position_key/kernel" in found:
            found[f"{attention}/position_key/bias"] = none
    return found


def _position_tables(config: DebertaConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Computes the keys and queries of relative positions of every layer, scaled: float32[rows, dim].

    In float64, so that every machine rounds to the same numbers.
    """
    if not config.num_relative:
        return {}
    relative = weights["relative/table"].astype(np.float64)
    if config.relative_norm:
        centred = relative - relative.mean(axis=1, keepdims=True)
        relative = centred / np.sqrt(centred.var(axis=1, keepdims=True) + config.norm_epsilon)
        relative = relative * weights["relative/norm/gamma"] + weights["relative/norm/beta"]
    wanted = [("key", config.content_to_position), ("query", config.position_to_content)]
    tables: dict[str, np.ndarray] = {}
    for index in range(config.num_layers):
        for part in (part for part, is_wanted in wanted if is_wanted):
            ours = f"layer_{index}/attention/position_{part}"
            dense = ours if config.own_relative else f"layer_{index}/attention/{part}"
            table = relative @ weights[f"{dense}/kernel"].astype(np.float64) + weights[f"{dense}/bias"]
            tables[ours] = (table * _scale(config)).astype(np.float32)
    return tables

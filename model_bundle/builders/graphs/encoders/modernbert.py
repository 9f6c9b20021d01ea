"""ModernBERT as a TensorFlow graph: rotary positions, local attention, gated dense layers.

The spellings are those of ``graphs/bert.py``. TensorFlow fuses a product with its activation or residual, and
a norm with its parts, only through a bias, so one is added where the architecture has none.
Import this module inside functions only: it imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import ACTIVATIONS, BertEncoder
from model_bundle.builders.graphs.encoders.long_attention import (
    MAX_AT_ONCE,
    attend,
    attend_any,
    attend_near,
    band_bias,
    near_at_once,
    padding_bias,
)
from model_bundle.builders.graphs.encoders.modernbert_config import ModernBertConfig
from model_bundle.builders.graphs.encoders.rotary import paired_columns, turned, turns

# A bias where there is none. TensorFlow removes sums with zeros, and does not fuse the rest; this changes no
# sum of float32 or bfloat16 numbers above 1e-22.
_NOTHING = 1e-30


@dataclass(frozen=True)
class _View:
    """What a kind of layer attends to.

    ``turn`` is that of queries and keys together; see ``rotary.turns``. ``bias`` is added to scores that are
    computed at once.
    """

    turn: tf.Tensor
    bias: tf.Tensor
    mask: tf.Tensor
    reach: int | None


class ModernBertEncoder(BertEncoder):
    """An encoder whose ``encode`` returns the states of every layer.

    Source: Warner et al., arXiv:2412.13663.
    """

    _config: ModernBertConfig

    def encode(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        dtype: tf.DType = tf.float32,
        types: tf.Tensor | None = None,  # noqa: ARG002
    ) -> list[tf.Tensor]:
        """Computes the states of every layer, the last with the final norm. See ``BertEncoder.encode``."""
        config, shape = self._config, tf.shape(ids)
        flat = tf.cast(tf.reshape(self._words(ids), [-1, config.dim]), dtype)
        flat = self._norm("embeddings/norm", flat, dtype)
        states = [flat]
        views = {is_global: self._view(is_global, mask, dtype) for is_global in set(config.global_layers)}
        for index, is_global in enumerate(config.global_layers):
            flat = self._layer_in(f"layer_{index}", flat, views[is_global], dtype)
            states.append(flat)
        states[-1] = self._norm("final_norm", flat, dtype)
        full = tf.concat([shape, [config.dim]], axis=0)
        return [tf.reshape(tf.cast(state, tf.float32), full) for state in states]

    def pool_first(
        self, states: tf.Tensor, dtype: tf.DType = tf.float32, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Applies the head below the classifier, to one vector per text: float32[texts, dim]."""
        if self._config.pool_mean:
            assert mask is not None
            real = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
            # Padding may hold anything, and nothing times NaN is NaN.
            kept = tf.where(real > 0, states, tf.zeros([], tf.float32))
            below = tf.reduce_sum(kept, axis=1) / tf.reduce_sum(real, axis=1)
        else:
            below = states[:, 0]
        return self._head(below, dtype)

    def classify(self, below: tf.Tensor) -> tf.Tensor:
        """Applies the classifier to the result of ``pool_first``, or head and classifier to each token."""
        if self._config.labels_per_token:
            flat = tf.reshape(below, [-1, self._config.dim])
            below = tf.reshape(self._head(flat, tf.float32), tf.shape(below))
        return super().classify(below)

    def _stored(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return _fuse(self._config, weights)

    def _head(self, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        inner = ACTIVATIONS[self._config.pooler_activation](
            self._dense("pooler", tf.cast(flat, dtype), dtype)
        )
        return tf.cast(self._norm("pooler/norm", inner, dtype), tf.float32)

    def _view(self, is_global: bool, mask: tf.Tensor, dtype: tf.DType) -> _View:
        config, num_tokens = self._config, tf.shape(mask)[1]
        size = config.dim // config.num_heads
        theta = config.global_theta if is_global else config.local_theta
        turn = turns(num_tokens, theta, size, 2 * config.num_heads)
        if is_global or config.reach >= config.max_positions - 1:
            return _View(turn, padding_bias(mask, dtype), mask, None)
        # Longer texts are computed in blocks; nothing is as large as the square of their length.
        bias = band_bias(mask[:, : near_at_once(config.reach)], config.reach, dtype)
        return _View(turn, bias, mask, config.reach)

    def _layer_in(self, layer: str, flat: tf.Tensor, view: _View, dtype: tf.DType) -> tf.Tensor:
        first = f"{layer}/attention/norm/gamma" not in self._variables
        normed = flat if first else self._norm(f"{layer}/attention/norm", flat, dtype)
        context = self._attention_in(layer, normed, view, dtype)
        attended = self._dense_onto(f"{layer}/attention/output", context, flat, dtype)
        normed = self._norm(f"{layer}/ffn/norm", attended, dtype)
        inner = self._activate(self._dense(f"{layer}/ffn/inner", normed, dtype))
        # Without a step between them, TensorFlow would merge this product with those of the activation, and
        # not recognise the activation any more.
        inner = tf.reshape(inner, [-1, self._config.inner_dim])
        gated = inner * self._dense(f"{layer}/ffn/gate", normed, dtype)
        return self._dense_onto(f"{layer}/ffn/outer", gated, attended, dtype)

    def _attention_in(self, layer: str, flat: tf.Tensor, view: _View, dtype: tf.DType) -> tf.Tensor:
        heads = self._config.num_heads
        texts, tokens, size = tf.shape(view.mask)[0], tf.shape(view.mask)[1], self._config.dim // heads
        paired = turned(self._dense(f"{layer}/attention/paired", flat, dtype), view.turn, texts)
        paired = tf.transpose(tf.reshape(paired, [texts, tokens, 2, heads, size]), [2, 0, 3, 1, 4])
        query, key = tf.unstack(paired)
        value = self._dense(f"{layer}/attention/value", flat, dtype)
        value = tf.transpose(tf.reshape(value, [texts, tokens, heads, size]), [0, 2, 1, 3])
        context = self._attend(query, key, value, view)
        # Uses the shape of what it is added to, so that TensorFlow sees that both are equal.
        return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), tf.shape(flat))

    def _attend(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, view: _View) -> tf.Tensor:
        reach, most = view.reach, self._config.max_positions
        at_once = MAX_AT_ONCE if reach is None else near_at_once(reach)
        if most <= at_once:
            return attend(query, key, value, view.bias)
        if reach is None:
            return attend_any(query, key, value, view.bias)
        return tf.cond(
            tf.shape(query)[2] > at_once,
            lambda: attend_near(query, key, value, view.mask, reach),
            lambda: attend(query, key, value, view.bias),
        )


def _fuse(config: ModernBertConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits what is stored as one product into those that are computed, and adds the biases that lack."""
    columns = paired_columns(config.num_heads, config.dim // config.num_heads)
    paired = np.concatenate([columns, config.dim + columns])
    found: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        part, last = name.rsplit("/", 1)
        layer = part.split("/")[0]
        if part.endswith("attention/qkv"):
            found[f"{layer}/attention/paired/{last}"] = value[..., paired]
            found[f"{layer}/attention/value/{last}"] = value[..., 2 * config.dim :]
        elif part.endswith("ffn/inner"):
            found[f"{part}/{last}"] = value[..., : config.inner_dim]
            found[f"{layer}/ffn/gate/{last}"] = value[..., config.inner_dim :]
        else:
            found[name] = value
    for name in tuple(found):
        part, last = name.rsplit("/", 1)
        if last == "kernel":
            found.setdefault(f"{part}/bias", np.full(found[name].shape[1], _NOTHING, np.float32))
        if last == "gamma":
            found.setdefault(f"{part}/beta", np.full_like(found[name], _NOTHING))
    return found

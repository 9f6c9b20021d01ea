"""BERT, DistilBERT and RoBERTa encoders as one TensorFlow graph, written for speed on CPUs.

Which spellings TensorFlow fuses, and what each is worth, is measured in ``docs/decisions``.
Import this module inside functions only: it imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from model_bundle.errors import WeightsMismatchError

# Added to the scores of padding. Large enough that softmax gives exactly 0, small enough for bfloat16.
_MASKED = -1e9


@dataclass(frozen=True)
class BertConfig:
    """The shape of an encoder.

    ``num_types`` is 0 where the model has no token types (DistilBERT, RoBERTa with one).
    ``position_offset`` is the position id of the first token: 0 for BERT, ``pad_id + 1`` for RoBERTa, where
    padding ids inside a text do not advance the position.
    ``activation`` is ``gelu`` (exact), ``gelu_tanh`` or ``relu``.
    """

    num_layers: int
    num_heads: int
    dim: int
    inner_dim: int
    vocab_size: int
    max_positions: int
    num_types: int
    norm_epsilon: float
    activation: str = "gelu"
    position_offset: int = 0
    pad_id: int = 0
    has_pooler: bool = False


def weight_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Names every weight an encoder needs, with its shape. Kernels are [inputs, outputs]."""
    dim, inner = config.dim, config.inner_dim
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings/word": (config.vocab_size, dim),
        "embeddings/position": (config.max_positions, dim),
    }
    if config.num_types:
        shapes["embeddings/type"] = (config.num_types, dim)
    shapes |= _norm_shapes("embeddings/norm", dim)
    for index in range(config.num_layers):
        layer = f"layer_{index}"
        for part in ("query", "key", "value", "output"):
            shapes |= _dense_shapes(f"{layer}/attention/{part}", dim, dim)
        shapes |= _norm_shapes(f"{layer}/attention/norm", dim)
        shapes |= _dense_shapes(f"{layer}/ffn/inner", dim, inner)
        shapes |= _dense_shapes(f"{layer}/ffn/outer", inner, dim)
        shapes |= _norm_shapes(f"{layer}/ffn/norm", dim)
    if config.has_pooler:
        shapes |= _dense_shapes("pooler", dim, dim)
    return shapes


def _dense_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _norm_shapes(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/gamma": (dim,), f"{name}/beta": (dim,)}


def check_weights(config: BertConfig, weights: Mapping[str, np.ndarray], source: str) -> None:
    """Checks that weights are exactly those the encoder needs.

    Raises:
        WeightsMismatchError: names every missing, surplus and misshapen weight.
    """
    shapes = weight_shapes(config)
    missing = sorted(shapes.keys() - weights.keys())
    unused = sorted(weights.keys() - shapes.keys())
    wrong = [
        f"{name}: stored {weights[name].shape}, expected {shape}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    if missing or unused or wrong:
        raise WeightsMismatchError(source, missing=missing, unused=unused, wrong_shapes=wrong)


class BertEncoder(tf.Module):
    """An encoder whose ``encode`` gives the states of every layer.

    Args:
        config: its shape.
        weights: float32 arrays by the names of ``weight_shapes``.
        source: where they came from, for errors.
    """

    def __init__(self, config: BertConfig, weights: Mapping[str, np.ndarray], source: str) -> None:
        super().__init__(name="bert")
        check_weights(config, weights, source)
        self._config = config
        self._variables = {
            name: tf.Variable(value, name=name, dtype=tf.float32)
            for name, value in _fuse(config, weights).items()
        }

    def encode(self, ids: tf.Tensor, mask: tf.Tensor, dtype: tf.DType = tf.float32) -> list[tf.Tensor]:
        """Computes the states of every layer.

        Args:
            ids: int32[texts, tokens].
            mask: int32[texts, tokens], 1 on real tokens. Padding stands at the end.
            dtype: what the matrix products are computed in, float32 or bfloat16.

        Returns:
            One float32[texts, tokens, dim] for the embeddings and one for each layer. Padded positions hold
            numbers without meaning.

        Source: Devlin et al., arXiv:1810.04805, after Vaswani et al., arXiv:1706.03762.
        """
        shape = tf.shape(ids)
        scores_bias = (1.0 - tf.cast(mask, tf.float32))[:, tf.newaxis, tf.newaxis, :] * _MASKED
        flat = self._embed(ids, dtype)
        states = [flat]
        for index in range(self._config.num_layers):
            flat = self._layer(f"layer_{index}", flat, shape, scores_bias, dtype)
            states.append(flat)
        full = tf.concat([shape, [self._config.dim]], axis=0)
        return [tf.reshape(tf.cast(state, tf.float32), full) for state in states]

    def pool_first(self, states: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """BERT's own pooler: a dense layer with tanh on the first token. Gives float32[texts, dim]."""
        first = tf.cast(states[:, 0], dtype)
        return tf.cast(tf.tanh(self._dense("pooler", first, dtype)), tf.float32)

    def _embed(self, ids: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        words = tf.gather(self._variables["embeddings/word"], ids)
        table = self._variables["embeddings/position"]
        offset = self._config.position_offset
        if offset:
            # Source: create_position_ids_from_input_ids of RoBERTa: only ids that are not padding count.
            real = tf.cast(tf.not_equal(ids, self._config.pad_id), tf.int32)
            positions = tf.gather(table, tf.cumsum(real, axis=1) * real + (offset - 1))
        else:
            positions = table[: tf.shape(ids)[1]]
        total = words + positions
        if self._config.num_types:
            total += self._variables["embeddings/type"][0]
        return self._norm("embeddings/norm", tf.reshape(total, [-1, self._config.dim]), dtype)

    def _layer(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        context = self._attention(layer, flat, shape, scores_bias, dtype)
        attended = self._dense(f"{layer}/attention/output", context, dtype) + flat
        attended = self._norm(f"{layer}/attention/norm", attended, dtype)
        inner = self._activate(self._dense(f"{layer}/ffn/inner", attended, dtype))
        return self._norm(
            f"{layer}/ffn/norm", self._dense(f"{layer}/ffn/outer", inner, dtype) + attended, dtype
        )

    def _attention(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        heads = self._config.num_heads
        size = self._config.dim // heads
        qkv = self._dense(f"{layer}/attention/qkv", flat, dtype)
        qkv = tf.reshape(qkv, [shape[0], shape[1], 3, heads, size])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) + scores_bias
        context = tf.matmul(tf.cast(tf.nn.softmax(scores), dtype), value)
        return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, self._config.dim])

    def _dense(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        kernel = tf.cast(self._variables[f"{name}/kernel"], dtype)
        bias = tf.cast(self._variables[f"{name}/bias"], dtype)
        return tf.nn.bias_add(tf.matmul(flat, kernel), bias)

    def _activate(self, flat: tf.Tensor) -> tf.Tensor:
        if self._config.activation == "relu":
            return tf.nn.relu(flat)
        return tf.nn.gelu(flat, approximate=self._config.activation == "gelu_tanh")

    def _norm(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        flat = tf.cast(flat, tf.float32)
        mean, variance = tf.nn.moments(flat, axes=[-1], keepdims=True)
        normed = tf.nn.batch_normalization(
            flat,
            mean,
            variance,
            self._variables[f"{name}/beta"],
            self._variables[f"{name}/gamma"],
            self._config.norm_epsilon,
        )
        return tf.cast(normed, dtype)


def _fuse(config: BertConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Joins query, key and value into one product, with 1/sqrt(head size) folded into the query."""
    scale = np.float32(1.0 / np.sqrt(config.dim // config.num_heads))
    fused = {name: value for name, value in weights.items() if not _is_qkv(name)}
    for index in range(config.num_layers):
        prefix = f"layer_{index}/attention"
        for part in ("kernel", "bias"):
            query, key, value = (weights[f"{prefix}/{name}/{part}"] for name in ("query", "key", "value"))
            fused[f"{prefix}/qkv/{part}"] = np.concatenate([query * scale, key, value], axis=-1)
    return fused


def _is_qkv(name: str) -> bool:
    return name.split("/")[-2] in ("query", "key", "value")

"""BERT and encoders of its kind as one TensorFlow graph, written for speed on CPUs.

``docs/decisions`` has measurements of which formulations TensorFlow fuses, and what each gains.
Import this module inside functions only: it imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert_config import BertConfig, check_weights
from model_bundle.builders.graphs.encoders.long_attention import MAX_AT_ONCE, attend_any

# Added to the scores of padding. Large enough for a softmax of exactly 0, small enough for bfloat16.
_MASKED = -1e9
ACTIVATIONS = {
    "gelu": partial(tf.nn.gelu, approximate=False),
    "gelu_tanh": partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
}


class BertEncoder(tf.Module):
    """An encoder whose ``encode`` returns the states of every layer.

    Args:
        config: its shape.
        weights: float32 arrays, named as in ``weight_shapes``; int8 for quantized word embeddings.
        source: where they came from, for errors.
    """

    def __init__(self, config: BertConfig, weights: Mapping[str, np.ndarray], source: str) -> None:
        super().__init__(name="bert")
        check_weights(config, weights, source)
        self._config = config
        self._variables = {
            name: tf.Variable(value, name=name, dtype=tf.int8 if value.dtype == np.int8 else tf.float32)
            for name, value in self._stored(weights).items()
        }

    @property
    def has_pooler(self) -> bool:
        """Whether ``pool_first`` can be called."""
        return self._config.has_pooler

    def kernel(self, name: str) -> np.ndarray:
        """Returns float32[inputs, outputs]: the weights of a dense layer."""
        kernel: np.ndarray = self._variables[f"{name}/kernel"].numpy()
        return kernel

    def encode(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        dtype: tf.DType = tf.float32,
        types: tf.Tensor | None = None,
    ) -> list[tf.Tensor]:
        """Computes the states of every layer.

        Args:
            ids: int32[texts, tokens].
            mask: int32[texts, tokens], 1 on real tokens. Padding is at the end.
            dtype: the dtype of the matrix products, float32 or bfloat16.
            types: int32[texts, tokens], the segment of each token; None means the first.

        Returns:
            One float32[texts, tokens, dim] for the embeddings and one per layer. Values at padded positions
            are meaningless.

        Source: Devlin et al., arXiv:1810.04805, after Vaswani et al., arXiv:1706.03762.
        """
        shape = tf.shape(ids)
        scores_bias = self._scores_bias(mask, dtype)
        flat = self._embed(ids, dtype, types)
        states = [flat]
        for layers in self._config.layers:
            for layer in layers:
                flat = self._layer(layer, flat, shape, scores_bias, dtype)
            states.append(flat)
        full = tf.concat([shape, [self._config.dim]], axis=0)
        return [tf.reshape(tf.cast(state, tf.float32), full) for state in states]

    def pool_first(
        self,
        states: tf.Tensor,
        dtype: tf.DType = tf.float32,
        mask: tf.Tensor | None = None,  # noqa: ARG002
    ) -> tf.Tensor:
        """Applies the pooler of BERT or of a head, a dense layer on the first token: float32[texts, dim].

        ``mask`` is that of ``encode``, for heads that take all tokens.
        """
        pooled = self._dense("pooler", tf.cast(states[:, 0], dtype), dtype)
        return tf.cast(ACTIVATIONS[self._config.pooler_activation](pooled), tf.float32)

    def classify(self, below: tf.Tensor) -> tf.Tensor:
        """Applies the classifier to the result of ``pool_first``, or to the states of the last layer.

        It is small, so it is always computed in float32.

        Args:
            below: float32[texts, dim] or float32[texts, tokens, dim].

        Returns:
            Logits, float32[texts, labels] or float32[texts, tokens, labels].
        """
        flat = tf.reshape(below, [-1, self._config.dim])
        logits = self._dense("classifier", flat, tf.float32)
        return tf.reshape(logits, tf.concat([tf.shape(below)[:-1], [self._config.num_labels]], axis=0))

    def _stored(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the weights as the graph computes with them."""
        return _fuse(self._config, weights)

    def _scores_bias(self, mask: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Returns what is added to the scores of every layer, for the mask: [texts, 1, 1, tokens]."""
        # Gets its axes last: if the bias is itself a product, TensorFlow takes it for the scaled scores and
        # fuses neither.
        bias = tf.cast(1 - mask, dtype) * tf.constant(_MASKED, dtype)
        return bias[:, tf.newaxis, tf.newaxis, :]

    def _embed(self, ids: tf.Tensor, dtype: tf.DType, types: tf.Tensor | None) -> tf.Tensor:
        words = self._words(ids)
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
            table = self._variables["embeddings/type"]
            total += table[0] if types is None else tf.gather(table, types)
        width = self._config.embedding_dim
        flat = tf.cast(tf.reshape(total, [-1, width or self._config.dim]), dtype)
        flat = flat if self._config.norm_first else self._norm("embeddings/norm", flat, dtype)
        return self._dense("embeddings/projection", flat, dtype) if width else flat

    def _words(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks up the vectors of tokens; only these are converted from int8 to float32."""
        rows = tf.gather(self._variables["embeddings/word"], ids)
        if not self._config.quantized_words:
            return rows
        scales = tf.gather(self._variables["embeddings/word_scale"], ids)
        return tf.cast(rows, tf.float32) * scales[:, :, tf.newaxis]

    def _layer(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        if self._config.norm_first:
            return self._layer_norm_first(layer, flat, shape, scores_bias, dtype)
        context = self._attention(layer, flat, shape, scores_bias, dtype)
        attended = self._dense_onto(f"{layer}/attention/output", context, flat, dtype)
        attended = self._norm(f"{layer}/attention/norm", attended, dtype)
        summed = self._feed_forward_onto(layer, attended, attended, dtype)
        return self._norm(f"{layer}/ffn/norm", summed, dtype)

    def _layer_norm_first(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        normed = self._norm(f"{layer}/attention/norm", flat, dtype)
        context = self._attention(layer, normed, shape, scores_bias, dtype)
        attended = self._dense_onto(f"{layer}/attention/output", context, flat, dtype)
        normed = self._norm(f"{layer}/ffn/norm", attended, dtype)
        return self._feed_forward_onto(layer, normed, attended, dtype)

    def _attention(
        self, layer: str, flat: tf.Tensor, shape: tf.Tensor, scores_bias: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        heads = self._config.num_heads
        size = self._config.dim // heads
        qkv = self._dense(f"{layer}/attention/qkv", flat, dtype)
        qkv = tf.reshape(qkv, [shape[0], shape[1], 3, heads, size])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        if self._config.max_positions <= MAX_AT_ONCE or self._config.relative_buckets:
            scores = self._scores(query, key, scores_bias)
            context = tf.matmul(tf.nn.softmax(scores), value)
        else:
            context = attend_any(query, key, value, scores_bias)
        # Uses the shape of what it is added to, so that TensorFlow sees that both are equal.
        return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), tf.shape(flat))

    def _scores(self, query: tf.Tensor, key: tf.Tensor, scores_bias: tf.Tensor) -> tf.Tensor:
        """Returns the biased scores of all heads, [texts, heads, tokens, tokens]."""
        # Product, scaling by a constant, and bias, in this order, are fused to one oneDNN kernel.
        scale = tf.constant(1.0 / np.sqrt(query.shape[-1]), query.dtype)
        return tf.matmul(query, key, transpose_b=True) * scale + scores_bias

    def _feed_forward_onto(
        self, layer: str, flat: tf.Tensor, residual: tf.Tensor, dtype: tf.DType
    ) -> tf.Tensor:
        inner = self._activate(self._dense(f"{layer}/ffn/inner", flat, dtype))
        return self._dense_onto(f"{layer}/ffn/outer", inner, residual, dtype)

    def _dense_onto(self, name: str, flat: tf.Tensor, residual: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Adds a dense layer's result to a residual."""
        return self._dense(name, flat, dtype) + residual

    def _dense(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        kernel = tf.cast(self._variables[f"{name}/kernel"], dtype)
        bias = tf.cast(self._variables[f"{name}/bias"], dtype)
        return tf.nn.bias_add(tf.matmul(flat, kernel), bias)

    def _activate(self, flat: tf.Tensor) -> tf.Tensor:
        return ACTIVATIONS[self._config.activation](flat)

    def _norm(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Layer normalisation in the form that TensorFlow's remapper recognises.

        Each row is normalised like a channel of an image; this, reshaped back, times gamma plus beta, is
        fused to one oneDNN kernel, which accumulates in float32 whatever the dtype. Plain formulations run as
        eight kernels that each read and write everything, and the shortest of them is fused with a fixed
        epsilon of 0.001. Source: FindMklLayerNorm in TensorFlow's grappler/optimizers/remapper.cc; measured
        in docs/decisions/layer-norm.md.
        """
        rows = tf.shape(flat)[0]
        none = tf.constant([], tf.float32)
        width = self._variables[f"{name}/gamma"].shape[0]
        image = tf.reshape(flat, tf.stack([1, rows, width, 1]))
        normed = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=tf.fill([rows], 1.0),
            offset=tf.fill([rows], 0.0),
            mean=none,
            variance=none,
            epsilon=self._config.norm_epsilon,
            data_format="NCHW",
            is_training=True,
        ).y
        gamma = tf.cast(self._variables[f"{name}/gamma"], dtype)
        beta = tf.cast(self._variables[f"{name}/beta"], dtype)
        return tf.reshape(normed, tf.shape(flat)) * gamma + beta


def _fuse(config: BertConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Concatenates query, key and value, so that one product computes all three."""
    names = ("query", "key", "value")
    fused = {name: value for name, value in weights.items() if name.split("/")[-2] not in names}
    for layer in config.layer_names:
        prefix = f"{layer}/attention"
        for part in ("kernel", "bias"):
            parts = [weights[f"{prefix}/{name}/{part}"] for name in names]
            fused[f"{prefix}/qkv/{part}"] = np.concatenate(parts, axis=-1)
    return fused

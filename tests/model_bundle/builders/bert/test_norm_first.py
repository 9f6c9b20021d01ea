"""Encoders that normalise what a layer takes, and word embeddings in 8 bits: against NumPy, written out."""

from __future__ import annotations

from dataclasses import replace
from math import erf

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.errors import WeightsMismatchError

CONFIG = BertConfig(
    num_layers=2,
    num_heads=2,
    dim=8,
    inner_dim=12,
    vocab_size=11,
    max_positions=6,
    num_types=0,
    norm_epsilon=1e-6,
    norm_first=True,
)
IDS = np.array([[2, 5, 7, 3], [2, 9, 3, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int32)


def random_weights(config: BertConfig) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        name: random.normal(0.0, 0.5, shape).astype(np.float32)
        for name, shape in weight_shapes(config).items()
    }


def norm(rows: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + CONFIG.norm_epsilon)
    return np.asarray(centred / spread * weights[f"{name}/gamma"] + weights[f"{name}/beta"])


def dense(rows: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.asarray(rows @ weights[f"{name}/kernel"] + weights[f"{name}/bias"])


def attend(rows: np.ndarray, weights: dict[str, np.ndarray], layer: str) -> np.ndarray:
    size = CONFIG.dim // CONFIG.num_heads
    parts = [dense(rows, weights, f"{layer}/attention/{part}") for part in ("query", "key", "value")]
    contexts = []
    for head in range(CONFIG.num_heads):
        query, key, value = (part[:, head * size : (head + 1) * size] for part in parts)
        scores = np.exp(query @ key.T / np.sqrt(size))
        contexts.append(scores / scores.sum(axis=1, keepdims=True) @ value)
    return dense(np.concatenate(contexts, axis=1), weights, f"{layer}/attention/output")


def written_out(ids: np.ndarray, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The states of one text without padding. Source: Xiong et al., arXiv:2002.04745, figure 1b."""
    rows = weights["embeddings/word"][ids] + weights["embeddings/position"][: len(ids)]
    states = [rows]
    for index in range(CONFIG.num_layers):
        layer = f"layer_{index}"
        rows = rows + attend(norm(rows, weights, f"{layer}/attention/norm"), weights, layer)
        inner = dense(norm(rows, weights, f"{layer}/ffn/norm"), weights, f"{layer}/ffn/inner")
        inner = inner * 0.5 * (1.0 + np.vectorize(erf)(inner / np.sqrt(2.0)))
        rows = rows + dense(inner, weights, f"{layer}/ffn/outer")
        states.append(rows)
    return states


def test_layers_compute_what_is_written_out() -> None:
    weights = random_weights(CONFIG)
    found = BertEncoder(CONFIG, weights, "test").encode(tf.constant(IDS), tf.constant(MASK))
    for row, mask in enumerate(MASK):
        length = int(mask.sum())
        expected = written_out(IDS[row, :length], {name: w.astype(np.float64) for name, w in weights.items()})
        for state, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(state[row, :length], wanted, rtol=1e-4, atol=1e-4)


def test_it_has_no_norm_of_embeddings() -> None:
    names = weight_shapes(CONFIG)
    assert not [name for name in names if name.startswith("embeddings/norm")]
    assert len(names) == len(weight_shapes(replace(CONFIG, norm_first=False))) - 2
    with pytest.raises(WeightsMismatchError, match="embeddings/norm/gamma"):
        BertEncoder(replace(CONFIG, norm_first=False), random_weights(CONFIG), "test")


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_a_table_in_8_bits_is_the_table_it_stands_for(dtype: tf.DType) -> None:
    config = replace(CONFIG, quantized_words=True)
    weights = random_weights(config)
    random = np.random.default_rng(1)
    table = random.integers(-127, 128, (config.vocab_size, config.dim)).astype(np.int8)
    scales = random.uniform(0.005, 0.02, config.vocab_size).astype(np.float32)
    weights |= {"embeddings/word": table, "embeddings/word_scale": scales}
    small = BertEncoder(config, weights, "test")
    plain = {name: w for name, w in weights.items() if name != "embeddings/word_scale"}
    plain["embeddings/word"] = table * scales[:, np.newaxis]
    full = BertEncoder(CONFIG, plain, "test")
    ids, mask = tf.constant(IDS), tf.constant(MASK)
    for state, wanted in zip(small.encode(ids, mask, dtype), full.encode(ids, mask, dtype), strict=True):
        np.testing.assert_array_equal(state, wanted)
    assert [v.dtype for v in small.variables if v.name.startswith("embeddings/word:")] == [tf.int8]

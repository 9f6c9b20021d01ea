"""Attention in blocks: the same numbers as at once, and memory that grows with the length, not its square."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.builders.graphs.encoders import long_attention
from model_bundle.builders.graphs.encoders.long_attention import (
    MAX_AT_ONCE,
    attend,
    attend_by_queries,
    attend_near,
    band_bias,
    padding_bias,
)
from model_bundle.runtime.freeze.freeze import freeze
from model_bundle.runtime.memory import AT_ONCE_TOKENS, BLOCKS_SAVE


def parts(num_texts: int, tokens: int, heads: int = 2, size: int = 4) -> tuple[tf.Tensor, ...]:
    random = np.random.default_rng(tokens)
    shape = (num_texts, heads, tokens, size)
    return tuple(tf.constant(random.standard_normal(shape), tf.float32) for _ in range(3))


def mask_of(*lengths: int) -> tf.Tensor:
    return tf.constant(np.arange(max(lengths)) < np.array(lengths)[:, np.newaxis], tf.int32)


@pytest.mark.parametrize("lengths", [(1, 1), (255, 3), (256, 256), (257, 100), (700, 513)])
def test_blocks_of_queries_give_the_same(lengths: tuple[int, ...]) -> None:
    mask = mask_of(*lengths)
    query, key, value = parts(len(lengths), max(lengths))
    bias = padding_bias(mask, tf.float32)
    found = attend_by_queries(query, key, value, bias)
    np.testing.assert_allclose(found, attend(query, key, value, bias), atol=1e-5)


@pytest.mark.parametrize("lengths", [(1, 1), (64, 2), (65, 64), (200, 129)])
@pytest.mark.parametrize("reach", [0, 1, 64, 70])
def test_blocks_of_near_tokens_give_the_same(lengths: tuple[int, ...], reach: int) -> None:
    mask = mask_of(*lengths)
    query, key, value = parts(len(lengths), max(lengths))
    found = attend_near(query, key, value, mask, reach).numpy()
    expected = attend(query, key, value, band_bias(mask, reach, tf.float32)).numpy()
    real = mask.numpy() > 0
    np.testing.assert_allclose(
        found.transpose(0, 2, 1, 3)[real], expected.transpose(0, 2, 1, 3)[real], atol=1e-5
    )


def largest_allocations(run: Any, ids: tf.Tensor) -> int:
    """Returns the most bytes that TensorFlow held while it ran, beyond what it held before."""
    memory = tf.config.experimental
    run(ids, tf.ones_like(ids))
    try:
        memory.reset_memory_stats("CPU:0")
    except ValueError:
        pytest.skip("this TensorFlow does not count memory")
    run(ids, tf.ones_like(ids))
    found = memory.get_memory_info("CPU:0")
    return int(found["peak"] - found["current"])


@cache
def long_encoder() -> Any:
    """Returns a tiny BERT with many positions, as a function of ids and mask."""
    config = BertConfig(
        num_layers=1, num_heads=4, dim=16, inner_dim=16, vocab_size=50, max_positions=8192, num_types=0,
        norm_epsilon=1e-6,
    )  # fmt: skip
    random = np.random.default_rng(0)
    shapes = weight_shapes(config).items()
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes}
    encoder = BertEncoder(config, weights, "test")
    spec = [tf.TensorSpec([None, None], tf.int32, name=name) for name in ("ids", "mask")]

    @tf.function(autograph=False)
    def run(ids: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"states": encoder.encode(ids, mask)[-1]}

    run.encoder = encoder  # keeps its variables
    return run, run.get_concrete_function(ids=spec[0], mask=spec[1])


@pytest.mark.slow
def test_memory_of_long_texts_grows_with_their_length() -> None:
    run, _ = long_encoder()
    tokens = 2 * MAX_AT_ONCE
    peaks = [largest_allocations(run, tf.ones([1, length], tf.int32)) for length in (tokens, 2 * tokens)]
    all_scores = 4 * 4 * (2 * tokens) ** 2
    # Twice: scores and their softmax.
    blocks = 2 * 4 * 4 * long_attention._QUERIES * 2 * tokens
    assert peaks[1] < blocks * 1.5 < all_scores / 4
    assert peaks[1] < 2.5 * peaks[0]


def test_both_branches_survive_freezing_and_two_frozen_graphs_do_not_meet() -> None:
    run, concrete = long_encoder()
    frozen = [freeze(concrete, optimize_first=True) for _ in range(2)]
    for length in (5, MAX_AT_ONCE + 1):
        ids = tf.constant(np.arange(length)[np.newaxis] % 50, tf.int32)
        mask = tf.constant(np.arange(length)[np.newaxis] < length - 2, tf.int32)
        expected = run(ids, mask)["states"].numpy()[:, : length - 2]
        for each in frozen:
            found = each.call({"ids": ids, "mask": mask})["states"].numpy()[:, : length - 2]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_guard_of_memory_knows_from_where_on_blocks_save_how_much() -> None:
    assert AT_ONCE_TOKENS == MAX_AT_ONCE
    assert BLOCKS_SAVE * long_attention._QUERIES >= MAX_AT_ONCE

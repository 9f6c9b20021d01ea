"""The scales of int8 products, against what they are by definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.builders.graphs.int8_plan import ChannelGroup
from model_bundle.quantize.choose import choose_product, split_channels
from model_bundle.quantize.observed import Observed
from model_bundle.quantize.quality import compare, nearest, rank_correlation
from model_bundle.runtime.int8_products import quantize_columns


def test_a_column_uses_its_whole_range() -> None:
    kernel = np.array([[1.0, -0.02], [-0.5, 0.01]], np.float32)
    values, scales = quantize_columns(kernel)
    assert values.tolist() == [[127, -127], [-64, 64]]  # -63.5 and 63.5, rounded to even
    np.testing.assert_allclose(scales, [1.0, 0.02])


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_a_rounded_weight_is_off_by_half_a_step_at_most(seed: int) -> None:
    kernel = np.random.default_rng(seed).normal(size=(9, 4)).astype(np.float32)
    values, scales = quantize_columns(kernel)
    assert np.abs(values).max() <= 127
    assert (np.abs(values * scales / 127 - kernel) <= scales / 127 * 0.5001).all()


def cost(largest: np.ndarray, weight: np.ndarray, groups: list[np.ndarray]) -> float:
    return float(sum(weight[group].sum() * largest[group].max() ** 2 for group in groups if len(group)))


def test_channels_are_split_where_it_saves_most() -> None:
    random = np.random.default_rng(3)
    largest = random.permutation(np.repeat([1.0, 2.0, 9.0, 10.0, 30.0], 64)).astype(np.float32)
    weight = random.uniform(0.5, 2, len(largest)).astype(np.float32)
    found = split_channels(largest, weight, 3)
    blocks = [np.flatnonzero(largest == level) for level in (1.0, 2.0, 9.0, 10.0, 30.0)]
    best = min(
        cost(largest, weight, [np.concatenate(blocks[a:b]) for a, b in itertools.pairwise([0, *cut, 5])])
        for cut in itertools.combinations(range(1, 5), 2)
    )
    assert cost(largest, weight, [group.channels for group in found]) == pytest.approx(best)
    assert sorted(np.concatenate([group.channels for group in found])) == list(range(len(largest)))


def test_few_channels_are_one_group() -> None:
    (group,) = split_channels(np.ones(32, np.float32), np.ones(32, np.float32), 3)
    assert group.channels.tolist() == list(range(32))


def test_an_outlier_channel_is_smoothed_away() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 64)).astype(np.float32)
    rows[:, 5] *= 60
    inputs = Observed(64)
    inputs.add(rows, 500)
    kernel = random.normal(size=(64, 32)).astype(np.float32) * 0.1
    product = choose_product(kernel, inputs)
    assert product.smoothing is not None
    # What inputs are multiplied by, the kernel is divided by.
    np.testing.assert_allclose((rows * product.smoothing) @ product.kernel, rows @ kernel, atol=2e-3)
    assert np.abs(rows * product.smoothing).max() <= product.largest
    assert product.error < 1e-3


def test_figures_of_quality_are_those_of_their_definitions() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(12, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    same = compare(vectors, vectors, vectors, vectors)
    assert (same.num_texts, same.same_nearest, same.rank_correlation) == (12, 1.0, 1.0)
    assert rank_correlation(vectors, -vectors) == pytest.approx(1.0)  # similarities are the same
    turned = np.roll(vectors, 1, axis=0)
    expected = [
        int(max((j for j in range(12) if j != i), key=lambda j: vectors[i] @ vectors[j])) for i in range(12)
    ]
    assert nearest(vectors).tolist() == expected
    worse = compare(turned, vectors, vectors, vectors)
    assert worse.min_cosine < 0.9
    assert worse.calibration_rank_correlation == 1.0


def test_a_vector_of_nan_is_never_good_enough() -> None:
    vectors = np.eye(4, dtype=np.float32)
    broken = vectors.copy()
    broken[2] = np.nan
    assert compare(broken, vectors, vectors, vectors).min_cosine == -1.0


@pytest.mark.parametrize("inner", [None, "inner"])
def test_channels_that_were_always_zero_keep_a_range(inner: str | None) -> None:
    """A bag of words: the words of other texts were never seen."""
    random = np.random.default_rng(2)
    kernel = random.normal(size=(256, 64)).astype(np.float32)
    kernel[:, :4] *= 30  # smoothing has something to gain
    rows = (random.random((300, 256)) < 0.1).astype(np.float32) * random.uniform(0.1, 2, 256).astype(
        np.float32
    )
    rows[:, 128:] = 0
    observed = Observed(256)
    observed.add(rows, 300)
    product = choose_product(kernel, observed, inner=inner)
    assert product.error < 1e-3
    others = np.roll(rows, 128, axis=1)
    groups = product.groups or (ChannelGroup(np.arange(256), product.largest),)
    found = np.zeros((len(rows), 64))
    for group in groups:
        values = others[:, group.channels]
        if product.smoothing is not None:
            values = values * product.smoothing[group.channels]
        found += np.clip(values, -group.largest, group.largest) @ product.kernel[group.channels]
    expected = others @ kernel
    # Clipped a little at most, where a channel is wider than most.
    assert ((found - expected) ** 2).sum() < 0.05 * (expected**2).sum()

"""Pairing stored weights with a model's: names and numbers decide, values prove."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_bundle.builders.keras.load.match import check_values, pair_weights
from model_bundle.builders.keras.options import expand_columns
from model_bundle.errors import WeightsMismatchError

SHAPES = st.sampled_from([(2, 2), (2,), (3, 2)])


@given(
    st.lists(st.lists(SHAPES, min_size=1, max_size=3), min_size=1, max_size=6),
    st.integers(0, 30),
    st.randoms(),
)
def test_layers_in_one_order_are_paired_whatever_their_numbers(
    layers: list[list[tuple[int, ...]]], offset: int, random: Any
) -> None:
    def named(first: int) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
        return {
            f"dense_{first + index}" if first + index else "dense": [
                (f"w{i}", s) for i, s in enumerate(shapes)
            ]
            for index, shapes in enumerate(layers)
        }

    stored, expected = named(offset), named(0)
    mixed = {name: random.sample(weights, len(weights)) for name, weights in stored.items()}
    pairs, _ = pair_weights(mixed, expected, "file")
    for (old, index), (new, position) in pairs:
        assert list(stored).index(old) == list(expected).index(new)
        assert mixed[old][index] == expected[new][position]
    assert len(pairs) == sum(map(len, layers))


def test_weights_without_names_are_paired_by_shape_or_not_at_all() -> None:
    unnamed = {"mix": [("Variable", (2, 2)), ("Variable", (2,))]}
    turned = {"mix": [("Variable", (2,)), ("Variable", (2, 2))]}
    pairs, notes = pair_weights(unnamed, turned, "file")
    assert pairs == [(("mix", 0), ("mix", 1)), (("mix", 1), ("mix", 0))]
    assert "paired by shape" in notes[0]
    twice = {"mix": [("Variable", (2,)), ("Variable", (2,))]}
    with pytest.raises(WeightsMismatchError):
        pair_weights(twice, twice, "file")


def test_values_are_compared_both_ways() -> None:
    one, other = np.arange(3.0), np.arange(3.0) + 1
    check_values({"a": one, "b": other}, {"x": other, "y": one}, "file")
    check_values({"a": one, "b": other}, {"x": one}, "file", {"inside": other})
    with pytest.raises(WeightsMismatchError, match=r"(?s)not stored \(1\):\n  y.*not expected \(1\):\n  b"):
        check_values({"a": one, "b": other}, {"x": one, "y": one}, "file")


@pytest.mark.parametrize(
    "call",
    [
        (("i", "m", "t"), None, None),
        (("i", "m"), None, "t"),
        (("i",), "m", "t"),
        ({"input_ids": "i", "attention_mask": "m"}, None, "t"),
        ("i", "m", "t"),
    ],
)
def test_transformers_models_are_called_in_three_ways(call: tuple[Any, Any, Any]) -> None:
    from model_bundle.builders.keras.load.bert_layers import split_inputs

    assert split_inputs(*call) == ("i", "m", "t")


@pytest.mark.parametrize("text", ["", "a,,b", "a,a", "x_3..x_1"])
def test_columns_that_make_no_list_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected different|ends before"):
        expand_columns(text)

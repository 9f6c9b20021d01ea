"""What a signature is fed: fixed lengths, zeros for segments, numbers by name."""

from __future__ import annotations

import numpy as np
import pytest

from model_bundle.bundle.specs import InputSpec
from model_bundle.errors import ModelRunError
from model_bundle.runtime.inputs import example_numbers, fixed_length, numeric_key, signature_inputs

IDS = InputSpec(role="ids", dtype="int32", length=4)
MASK = InputSpec(role="mask", dtype="int32", length=4)
TYPES = InputSpec(role="types", dtype="int64", length=4)
ARRAYS = {"ids": np.array([[5, 6], [7, 9]]), "mask": np.array([[1, 1], [1, 0]])}


def test_a_fixed_length_is_filled_up_with_padding() -> None:
    found = signature_inputs(ARRAYS, {"a": IDS, "b": MASK, "c": TYPES}, pad_id=9)
    np.testing.assert_array_equal(found["a"], [[5, 6, 9, 9], [7, 9, 9, 9]])
    np.testing.assert_array_equal(found["b"], [[1, 1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(found["c"], np.zeros((2, 4)))
    assert fixed_length({"a": IDS, "x": InputSpec(role="text", dtype="string")}) == 4


def test_words_are_filled_up_with_empty_ones() -> None:
    words = np.array([[b"a", b"b"]], dtype=object)
    found = signature_inputs({"words": words}, {"w": InputSpec(role="words", dtype="string", length=3)}, 0)
    assert found["w"].tolist() == [[b"a", b"b", b""]]


def test_what_the_model_lacks_is_not_fed() -> None:
    found = signature_inputs(ARRAYS, {"input_ids": InputSpec(role="ids", dtype="int32")}, 0)
    assert list(found) == ["input_ids"]


def test_numbers_go_by_name_where_there_are_several() -> None:
    specs = {name: InputSpec(role="numeric", dtype="float32", columns=("x",)) for name in ("one", "two")}
    arrays = {"one": np.array([[1.0]]), "two": np.array([[2.0]])}
    assert signature_inputs({numeric_key(name): array for name, array in arrays.items()}, specs, 0) == arrays
    assert signature_inputs({"numeric": arrays["one"]}, {"one": specs["one"]}, 0) == {"one": arrays["one"]}


def test_too_many_tokens_and_missing_arrays_are_errors() -> None:
    with pytest.raises(ModelRunError, match="takes 4 tokens, not 5"):
        signature_inputs({"ids": np.zeros((1, 5))}, {"a": IDS}, 0)
    with pytest.raises(ModelRunError, match="needs mask; the batch only has ids"):
        signature_inputs({"ids": np.zeros((1, 4))}, {"a": IDS, "b": MASK}, 0)


def test_example_numbers_belong_to_their_text() -> None:
    specs = {
        "f": InputSpec(role="numeric", dtype="float32", columns=("a", "b")),
        "i": InputSpec(role="numeric", dtype="int32", columns=("c",)),
    }
    one, other = example_numbers(specs, np.array([0, 1, 2])), example_numbers(specs, np.array([2, 0]))
    np.testing.assert_array_equal(one[numeric_key("f")][[2, 0]], other[numeric_key("f")])
    assert one[numeric_key("f")].shape == (3, 2)
    assert set(one[numeric_key("i")].ravel().tolist()) <= {0, 1}


def test_numbers_may_be_called_as_a_role_is() -> None:
    specs = {"ids": InputSpec(role="ids", dtype="int32"), "mask": InputSpec(role="numeric", dtype="float32")}
    arrays = {"ids": np.ones((1, 2)), "mask": np.ones((1, 2)), numeric_key("mask"): np.array([[7.0]])}
    assert signature_inputs(arrays, specs, 0)["mask"].tolist() == [[7.0]]

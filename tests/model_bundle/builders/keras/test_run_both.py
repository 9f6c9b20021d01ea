"""What an exported graph is compared with; outputs and arguments of what replaces transformers' models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from model_bundle.builders.keras.load.bert_layers import (
    Classifier,
    ModelOutput,
    StandIn,
    reject_arguments,
    split_inputs,
)
from model_bundle.builders.keras.load.run_both import compare_with_keras, generated
from model_bundle.errors import SourceError

SPECS = {"x": tf.TensorSpec([None, 2], tf.float32), "n": tf.TensorSpec([None, None], tf.int32)}
SIZES = {"hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 5}
SETTINGS = SIZES | {
    "num_hidden_layers": 2,
    "max_position_embeddings": 8,
    "transformers_version": "4.38.2",
}
IDS = tf.ones([2, 3], tf.int32)


def sums(**inputs: Any) -> dict[str, Any]:
    return {"sum": tf.reduce_sum(inputs["x"], -1) + tf.cast(tf.reduce_sum(inputs["n"], -1), tf.float32)}


def compared(call: Any, exported: Any = sums, *layers: Any) -> str:
    return compare_with_keras(SimpleNamespace(layers=layers), SPECS, lambda given: call(**given), exported)


def test_equal_results_name_the_keras_that_gave_them() -> None:
    assert compared(sums) == f"Keras {tf.keras.__version__} on generated inputs"


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.002])
def test_other_results_are_refused(factor: float) -> None:
    with pytest.raises(SourceError, match=r"differs from the Keras model by .* expected none.*SavedModel"):
        compared(sums, lambda **given: {"sum": factor * sums(**given)["sum"]})


def test_another_shape_or_nan_alone_on_one_side_is_refused() -> None:
    for other in (lambda value: value[:2], lambda value: value * float("nan")):
        with pytest.raises(SourceError, match="differs from the Keras model by inf"):
            compared(sums, lambda other=other, **given: {"sum": other(sums(**given)["sum"])})


def test_nan_on_both_sides_and_rounding_are_no_difference() -> None:
    def with_nan(**given: Any) -> dict[str, Any]:
        return {"sum": tf.concat([sums(**given)["sum"], [float("nan")]], 0)}

    assert compared(with_nan, lambda **given: {"sum": with_nan(**given)["sum"] * 1.00001}).startswith("Keras")


def test_what_cannot_be_compared_says_why() -> None:
    def fails(**_: Any) -> Any:
        raise KeyError("word")

    def at_random(**given: Any) -> Any:
        return {"sum": sums(**given)["sum"] * tf.random.uniform([], 1, 2)}

    assert compared(fails) == "nothing: the model fails on generated inputs (KeyError)"
    assert compared(at_random).endswith("results differ from call to call")
    stand_ins = [
        SimpleNamespace(assign_stored=None),
        StandIn(SETTINGS),
        Classifier(SETTINGS),
        StandIn(SETTINGS),
    ]
    told = compared(fails, fails, *stand_ins[1:])
    assert told.startswith("nothing: TFBertForSequenceClassification, TFBertModel of transformers cannot run")
    assert told.endswith("--texts, --expected")


def test_generated_inputs_have_the_shapes_and_values_of_their_kind() -> None:
    assert generated(SPECS["x"]).shape == (3, 2)
    ids = generated(SPECS["n"])
    assert ids.shape == (3, 4)
    assert set(ids.flat) == {0, 1}
    assert len({tuple(row) for row in ids.tolist()}) > 1
    assert generated(tf.TensorSpec([None], tf.string)).tolist()[0] == b"The cat sat"
    assert generated(tf.TensorSpec(None, tf.float32)).shape == (3,)


def test_outputs_have_names_places_and_keras_numbers() -> None:
    outputs = ModelOutput(
        ("last_hidden_state", "pooler_output", "hidden_states"),
        {"hidden_states": ("h0", "h1"), "pooler_output": "p", "last_hidden_state": "l"},
    )
    assert outputs["pooler_output"] == outputs.pooler_output == outputs[1] == "p"
    assert outputs[0:2] == ("l", "p")
    assert outputs[-1] == outputs.to_tuple()[2] == ("h0", "h1")
    # By their sorted names, as Keras numbers the items of a dict.
    assert tf.nest.flatten(outputs) == ["h0", "h1", "l", "p"]
    with pytest.raises(AttributeError, match="logits"):
        _ = outputs.logits
    for key, error in (("logits", KeyError), (3, IndexError)):
        with pytest.raises(error):
            outputs[key]


@pytest.mark.parametrize(
    ("settings", "asked", "numbers"),
    [
        ({}, {}, 2),
        ({"output_hidden_states": True}, {}, 5),
        ({}, {"output_hidden_states": True}, 5),
        ({"output_hidden_states": True}, {"output_hidden_states": False}, 2),
        ({"output_hidden_states": True, "return_dict": True}, {"output_hidden_states": True}, 5),
    ],
)
def test_hidden_states_by_configuration_and_call(
    settings: dict[str, Any], asked: dict[str, Any], numbers: int
) -> None:
    layer = StandIn(SETTINGS | settings)
    for kind in (True, False):
        assert len(tf.nest.flatten(layer(IDS, return_dict=kind, **asked))) == numbers
    assert isinstance(layer(IDS, **asked), ModelOutput)
    assert isinstance(layer(IDS, return_dict=False, **asked), tuple)


@pytest.mark.parametrize(
    ("settings", "asked", "message"),
    [
        (
            {"transformers_version": "4.29.1"},
            {"output_hidden_states": True},
            "with output_hidden_states=True",
        ),
        ({"transformers_version": None}, {"return_dict": False}, "with return_dict=False"),
        ({"output_attentions": True}, {}, "attention probabilities"),
        ({}, {"output_attentions": True}, "attention probabilities"),
        ({}, {"training": True}, "training=True"),
        ({}, {"position_ids": IDS}, "position_ids"),
        ({}, {"inputs_embeds": IDS, "head_mask": IDS}, "head_mask, inputs_embeds"),
    ],
)
def test_calls_that_would_be_answered_wrongly_are_refused(
    settings: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        StandIn(SETTINGS | settings)(IDS, **asked)


def test_refused_arguments_are_named_and_defaults_are_not() -> None:
    reject_arguments({"use_cache": True, "head_mask": None, "add_pooling_layer": True}, "bert")
    with pytest.raises(SourceError, match="bert is given add_pooling_layer, head_mask, which are not"):
        reject_arguments({"head_mask": 0, "add_pooling_layer": False}, "bert")
    with pytest.raises(SourceError, match="StandIn is given dropout, which is not"):
        StandIn(SETTINGS, dropout=0.5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": 1, "position_ids": 2}, "given position_ids"),
        ({"attention_mask": 1}, "without input_ids"),
        ([1, 2, 3, 4], "given input 4"),
    ],
)
def test_inputs_that_would_be_ignored_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        split_inputs(inputs, None, None)

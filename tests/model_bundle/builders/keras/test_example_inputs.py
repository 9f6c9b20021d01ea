"""Signatures that parse serialized ``tf.Example`` messages, as estimators were exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer

from model_bundle.builders.keras.build import build_keras_bundle
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.rewrite.example_inputs import with_features
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.errors import SourceError
from model_bundle.inference.encoder import Encoder
from tests.conftest import shared_path
from tests.support.models.hub_modules import BUCKETS, table
from tests.support.models.keras_artefacts import TEXTS

SERIALIZED = tf.TensorSpec([None], tf.string, name="examples")
Parse = Callable[[Any], dict[str, Any]]


def message(**values: Any) -> bytes:
    made = {}
    for key, value in values.items():
        if isinstance(value[0], bytes):
            made[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        elif isinstance(value[0], float):
            made[key] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            made[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    return bytes(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())


def function_of(call: Parse) -> ModuleFunction:
    return ModuleFunction("one", {"examples": SERIALIZED}, lambda examples: call(examples))


def test_ids_and_mask_come_from_the_tokenizer(tmp_path: Path) -> None:
    folder = shared_path("cases/models/tf_example")
    built = build_keras_bundle(folder / "model", KerasChoices(), tmp_path / "bundle")
    inputs = {name: spec.role for name, spec in built.bundle.manifest.inputs.items()}
    assert inputs == {"input_ids": "ids", "input_mask": "mask"}
    assert any(note.startswith("input examples: serialized tf.Example; its features") for note in built.notes)
    texts = json.loads((folder / "expected.json").read_text())["texts"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    serialized = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        pad = [0] * (16 - len(ids))
        serialized.append(message(input_ids=[*ids, *pad], input_mask=[1] * len(ids) + pad))
    original = tf.saved_model.load(str(folder / "model")).signatures["serving_default"]
    (expected,) = original(examples=tf.constant(serialized)).values()
    np.testing.assert_allclose(Encoder(built.bundle).encode(texts), expected.numpy(), atol=1e-6)


def test_a_text_in_a_message_is_a_text(tmp_path: Path) -> None:
    module = tf.Module()
    module.table = tf.Variable(table(5))

    @tf.function(input_signature=[SERIALIZED])
    def serve(examples: Any) -> dict[str, Any]:
        features = {
            "text": tf.io.FixedLenFeature([], tf.string),
            "label": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        }
        parsed = tf.io.parse_example(examples, features)
        ids = tf.strings.to_hash_bucket_fast(parsed["text"], BUCKETS)
        return {
            "vector": tf.gather(module.table, ids),
            "label": parsed["label"],
            "size": tf.fill([tf.size(examples), 1], 1.0),
        }

    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve)
    choices = KerasChoices(default_output="vector")
    manifest = (built := build_keras_bundle(tmp_path / "model", choices, tmp_path / "bundle")).bundle.manifest
    assert ({name: spec.role for name, spec in manifest.inputs.items()}, manifest.zero_inputs) == (
        {"text": "text"},
        ("label",),
    )
    texts = list(TEXTS)
    expected = serve(tf.constant([message(text=[text.encode()]) for text in texts]))["vector"]
    np.testing.assert_allclose(Encoder(built.bundle).encode(texts), expected.numpy(), atol=1e-6)
    # Said to be texts, they are fed as before.
    with pytest.raises(SourceError, match="fails on"):
        build_keras_bundle(tmp_path / "model", KerasChoices(inputs={"examples": "text"}), tmp_path / "other")


def parse_every_kind(examples: Any) -> dict[str, Any]:
    features = {
        "some ids": tf.io.VarLenFeature(tf.int64),
        "rows": tf.io.RaggedFeature(tf.float32),
        "shape": tf.io.FixedLenFeature([2, 2], tf.float32),
        "more": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "text": tf.io.FixedLenFeature([1], tf.string),
    }
    parsed = tf.io.parse_example(examples, features)
    dense = tf.sparse.to_dense(parsed["some ids"])
    return {
        "ids": tf.cast(dense, tf.float32),
        "rows": parsed["rows"].to_tensor(),
        "shape": parsed["shape"],
        "more": tf.cast(parsed["more"], tf.float32),
        "text": tf.strings.length(parsed["text"]),
    }


def parse_as_tensorflow_1(examples: Any) -> dict[str, Any]:
    features = {
        "some ids": tf.io.VarLenFeature(tf.int64),
        "shape": tf.io.FixedLenFeature([2, 2], tf.float32),
        "text": tf.io.FixedLenFeature([1], tf.string),
    }
    graph_op = tf.raw_ops.ParseExample(
        serialized=examples,
        names=tf.constant([], tf.string),
        sparse_keys=["some ids"],
        dense_keys=["shape", "text"],
        dense_defaults=[tf.constant([], tf.float32), tf.constant([], tf.string)],
        sparse_types=[tf.int64],
        dense_shapes=[features["shape"].shape, features["text"].shape],
    )
    return {
        "ids": tf.cast(graph_op.sparse_values[0], tf.float32),
        "shape": graph_op.dense_values[0],
        "text": tf.strings.length(graph_op.dense_values[1]),
    }


@pytest.mark.parametrize("parse", [parse_every_kind, parse_as_tensorflow_1])
def test_features_of_every_kind_are_what_the_messages_are(parse: Parse) -> None:
    found, notes = with_features(function_of(parse), "it")
    values = {
        "some ids": np.array([[3, 1], [2, 5], [0, 7]]),
        "rows": np.array([[0.5], [1.5], [-2.0]], np.float32),
        "shape": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
        "more": np.array([[4, 4, 4]] * 3),
        "text": np.array([[b"one"], [b"three"], [b""]], dtype=object),
    }
    kept = {key: value for key, value in values.items() if key.replace(" ", "_") in found.inputs}
    assert len(kept) == len(found.inputs) == len(notes[0].split(": ")[-1].split(", "))
    serialized = [message(**{k: np.ravel(v[row]).tolist() for k, v in kept.items()}) for row in range(3)]
    expected = parse(tf.constant(serialized))
    results = found.call(**{key.replace(" ", "_"): tf.constant(value) for key, value in kept.items()})
    for name, value in expected.items():
        np.testing.assert_array_equal(results[name], value, err_msg=name)


def test_other_ways_to_parse_are_named() -> None:
    def one_by_one(examples: Any) -> dict[str, Any]:
        features = {"x": tf.io.FixedLenFeature([2], tf.float32)}
        spec = tf.TensorSpec([2], tf.float32)
        parsed = tf.map_fn(
            lambda one: tf.io.parse_single_example(one, features)["x"], examples, fn_output_signature=spec
        )
        return {"x": parsed}

    def computed(examples: Any) -> dict[str, Any]:
        return parse_every_kind(tf.strings.join([examples, ""]))

    def twice(examples: Any) -> dict[str, Any]:
        more = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([2], tf.float32)})
        return parse_every_kind(examples) | more

    for call, fault in (
        (one_by_one, "one by one"),
        (computed, "messages that are no input"),
        (twice, "messages 2 times"),
    ):
        with pytest.raises(SourceError, match=fault):
            with_features(function_of(call), "it")


def test_a_model_that_parses_nothing_stays_as_it_is() -> None:
    plain = function_of(lambda examples: {"size": tf.strings.length(examples)})
    assert with_features(plain, "it") == (plain, ())

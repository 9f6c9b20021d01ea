"""SavedModels to bundles: what inputs are fed, what outputs are, what is asked for, what is found beside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from model_bundle.builders.keras.build import build_keras_bundle
from model_bundle.builders.keras.input_roles import resolve_roles
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.rewrite.unused_inputs import _Paths, inputs_of_outputs, without_unused
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import _facts
from model_bundle.bundle.specs import InputSpec
from model_bundle.cli.main import main
from model_bundle.errors import SourceError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.verify import verify
from tests.conftest import DATA_DIR, shared_path
from tests.support.models.hub_modules import BUCKETS, DIM, table
from tests.support.models.legacy_objects import mlp

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
LENGTH = 12


def spec(dtype: str, *shape: int | None) -> Any:
    return tf.TensorSpec(shape, dtype)


def save(path: Path, call: Any, **inputs: Any) -> Path:
    """Saves a function of named inputs that may use ``table``."""
    module = tf.Module()
    module.table = tf.Variable(table(5))
    specs = {name: tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in inputs.items()}
    serve = tf.function(lambda **fed: call(module.table, **fed), autograph=False)
    tf.saved_model.save(module, str(path), signatures=serve.get_concrete_function(**specs))
    return path


def build(source: Path, output: Path, **choices: Any) -> ModelBundle:
    return build_keras_bundle(source, KerasChoices(**choices), output).bundle


def with_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copy(DATA_DIR / "tiny_bert" / name, folder)
    return folder


def save_ids_model(path: Path, length: int | None = LENGTH, *, with_mask: bool = True) -> Path:
    """Returns the mean of the rows of ids, over real tokens or over all."""

    def call(rows: Any, input_ids: Any, attention_mask: Any = None) -> dict[str, Any]:
        states = tf.gather(rows, input_ids % BUCKETS)
        if attention_mask is None:
            return {"vector": tf.reduce_mean(states, axis=1)}
        mask = tf.cast(attention_mask, tf.float32)[:, :, tf.newaxis]
        return {"vector": tf.reduce_sum(states * mask, 1) / tf.reduce_sum(mask, 1)}

    inputs = {"input_ids": spec("int32", None, length)}
    if with_mask:
        inputs["attention_mask"] = spec("int32", None, length)
    return save(path, call, **inputs)


# --- what inputs are fed


@pytest.mark.parametrize(
    ("inputs", "roles"),
    [
        ({"a": spec("string", None)}, {"a": "text"}),
        ({"a": spec("string", None, 1)}, {"a": "text"}),
        ({"tokens": spec("string", None, None), "n": spec("int32", None)}, None),
        (
            {"tokens": spec("string", None, None), "sequence_len": spec("int32", None)},
            {"tokens": "words", "sequence_len": "lengths"},
        ),
        ({"a": spec("string", None, 9)}, {"a": "words"}),
        (
            {"input_word_ids": spec("int32", None, 8), "input_mask": spec("int32", None, 8)},
            {"input_word_ids": "ids", "input_mask": "mask"},
        ),
        (
            {"input_ids": spec("int64", None, None), "token_type_ids": spec("int64", None, None)},
            {"input_ids": "ids", "token_type_ids": "types"},
        ),
        ({"a": spec("float32", None, 4)}, {"a": "numeric"}),
        (
            {
                "input_ids": spec("int32", None, 8),
                "mask": spec("float32", None, 8),
                "x": spec("float32", None),
            },
            {"input_ids": "ids", "mask": "mask", "x": "numeric"},
        ),
        ({"a": spec("string", None, None)}, None),
        ({"input_1": spec("int32", None, 8), "input_2": spec("int32", None, 8)}, None),
    ],
)
def test_inputs_are_read_in_one_way_or_not_at_all(
    inputs: dict[str, Any], roles: dict[str, str] | None
) -> None:
    if roles is not None:
        assert resolve_roles(inputs, {}, "it") == roles
        return
    with pytest.raises(SourceError, match=r"can be used in \d+ ways\. Choose one:\n  --input"):
        resolve_roles(inputs, {}, "it")


def test_what_is_said_decides_and_must_be_possible() -> None:
    inputs = {"input_1": spec("int32", None, 8), "input_2": spec("int32", None, 8)}
    assert resolve_roles(inputs, {"input_1": "mask"}, "it") == {"input_1": "mask", "input_2": "ids"}
    with pytest.raises(SourceError, match="--input input_1=text: it takes input_1 int32"):
        resolve_roles(inputs, {"input_1": "text"}, "it")
    with pytest.raises(SourceError, match="--input other: it has no such input"):
        resolve_roles(inputs, {"other": "text"}, "it")
    with pytest.raises(SourceError, match="not a known way to take texts"):
        resolve_roles({"a": spec("float32", None, 3, 4)}, {}, "it")


def test_a_list_of_words_is_not_taken_for_texts(tmp_path: Path) -> None:
    def call(rows: Any, words: Any) -> Any:
        states = tf.gather(rows, tf.strings.to_hash_bucket_fast(words, BUCKETS))
        real = tf.cast(tf.not_equal(words, ""), tf.float32)[:, :, tf.newaxis]
        return {"mean": tf.reduce_sum(states * real, 1) / tf.maximum(tf.reduce_sum(real, 1), 1)}

    source = save(tmp_path / "words", call, words=spec("string", None, None))
    with pytest.raises(SourceError, match=r"(?s)2 ways.*--input words=words.*--input words=text"):
        build(source, tmp_path / "none")
    bundle = build(
        source, tmp_path / "bundle", inputs={"words": "words"}, word_split="unicode", lowercase=True
    )
    encoder = Encoder(bundle)
    np.testing.assert_allclose(encoder.encode(["The cat."]), encoder.encode(["the cat ."]), atol=1e-6)
    assert np.abs(encoder.encode(["the cat"]) - encoder.encode(["the cat ."])).max() > 1e-3


# --- texts


def test_scores_of_tokens_are_averaged_over_real_ones(tmp_path: Path) -> None:
    def call(rows: Any, text: Any) -> Any:
        words = tf.strings.split(text[:, 0], " ")
        ids = tf.strings.to_hash_bucket_fast(words, BUCKETS)
        return {"scores": tf.sigmoid(tf.gather(rows[:, :1], ids.to_tensor(0)))}

    source = save(tmp_path / "model", call, text=spec("string", None, 1))
    bundle = build(source, tmp_path / "bundle")
    assert bundle.manifest.outputs["scores"].kind == "token"
    encoder = Encoder(bundle)
    alone = [encoder.encode([text]) for text in ("a", "a b", "a b c d e f g")]
    np.testing.assert_allclose(
        encoder.encode(["a", "a b", "a b c d e f g"]), np.concatenate(alone), atol=1e-6
    )


def test_tokens_that_nobody_can_count_are_left_out(tmp_path: Path) -> None:
    def call(rows: Any, text: Any) -> Any:
        characters = tf.strings.unicode_split(text, "UTF-8")
        return {"states": tf.gather(rows, tf.strings.to_hash_bucket_fast(characters, BUCKETS).to_tensor(0))}

    source = save(tmp_path / "model", call, text=spec("string", None))
    with pytest.raises(SourceError, match="which tokens are padding is unknown"):
        build(source, tmp_path / "bundle")


def test_a_bare_squeeze_does_not_hurt_one_text(tmp_path: Path) -> None:
    def call(rows: Any, text: Any) -> Any:
        ids = tf.strings.to_hash_bucket_fast(text, BUCKETS)
        return {"score": tf.squeeze(tf.gather(rows[:, :1], ids))}

    bundle = build(save(tmp_path / "model", call, text=spec("string", None, 1)), tmp_path / "bundle")
    encoder = Encoder(bundle)
    both = encoder.encode(["one", "other"])
    assert both.shape == (2, 1)
    np.testing.assert_allclose(encoder.encode(["other"]), both[1:], atol=1e-6)


def test_a_mean_that_counts_padding_gets_batches_of_its_own(tmp_path: Path) -> None:
    def call(rows: Any, text: Any) -> Any:
        ids = tf.strings.to_hash_bucket_fast(tf.strings.split(text), BUCKETS)
        return {"mean": tf.reduce_mean(tf.gather(rows, ids.to_tensor(0)), axis=1)}

    bundle = build(save(tmp_path / "model", call, text=spec("string", None)), tmp_path / "bundle")
    assert bundle.manifest.batch_dependent
    encoder = Encoder(bundle)
    texts = ["a", "a b", "b", "c d e f"]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-6)


def test_casing_is_kept_unless_said(tmp_path: Path) -> None:
    def call(rows: Any, text: Any) -> Any:
        return {"vector": tf.gather(rows, tf.strings.to_hash_bucket_fast(text, BUCKETS))}

    source = save(tmp_path / "model", call, text=spec("string", None))
    kept, lowered = (
        Encoder(build(source, tmp_path / "kept")),
        Encoder(build(source, tmp_path / "low", lowercase=True)),
    )
    assert np.abs(kept.encode(["Cat"]) - kept.encode(["cat"])).max() > 1e-3
    np.testing.assert_array_equal(lowered.encode(["Cat"]), kept.encode(["cat"]))


# --- token ids


def test_the_old_recipe_s_folders_are_one_thing(tmp_path: Path) -> None:
    model = save_ids_model(tmp_path / "old" / "my_classifier_keras")
    with_tokenizer(tmp_path / "old" / "my_classifier")
    built = build_keras_bundle(tmp_path / "old", KerasChoices(), tmp_path / "bundle")
    manifest = built.bundle.manifest
    assert {name: one.role for name, one in manifest.inputs.items()} == {
        "input_ids": "ids",
        "attention_mask": "mask",
    }
    assert manifest.inputs["input_ids"] == InputSpec(role="ids", dtype="int32", length=LENGTH)
    assert manifest.max_tokens == LENGTH
    assert any(f"every text is padded to {LENGTH} tokens" in note for note in built.notes)
    assert f"read: SavedModel {model}" in built.notes
    # An empty text, one that is too long, and one with other letters, in one batch and alone.
    encoder = Encoder(built.bundle)
    texts = ["", "the cat sat " * 20, "Zürich 北京", "the cat"]
    together = encoder.encode(texts)
    np.testing.assert_allclose(
        together, np.concatenate([encoder.encode([text]) for text in texts]), atol=1e-6
    )
    assert np.isfinite(together).all()
    assert any(line.startswith("bfloat16: not offered") for line in verify(built.bundle.path))


def test_a_model_without_a_mask_is_fed_none(tmp_path: Path) -> None:
    source = save_ids_model(tmp_path / "model", None, with_mask=False)
    with pytest.raises(SourceError, match="takes token ids, but no tokenizer is next to it"):
        build(source, tmp_path / "none")
    bundle = build(
        source, tmp_path / "bundle", tokenizer=with_tokenizer(tmp_path / "elsewhere" / "tokenizer")
    )
    again = build(source, tmp_path / "again", tokenizer=tmp_path / "elsewhere" / "tokenizer")
    assert again.digest == bundle.digest
    assert list(bundle.manifest.inputs) == ["input_ids"]
    assert bundle.manifest.batch_dependent
    encoder = Encoder(bundle)
    alone = np.concatenate([encoder.encode([text]) for text in ("the cat", "the cat sat on the mat")])
    np.testing.assert_allclose(encoder.encode(["the cat", "the cat sat on the mat"]), alone, atol=1e-6)


def test_several_tokenizers_beside_a_model_are_listed(tmp_path: Path) -> None:
    source = save_ids_model(tmp_path / "model")
    for name in ("one", "two"):
        with_tokenizer(tmp_path / name)
    with pytest.raises(SourceError, match=r"(?s)--tokenizer .*one\n  --tokenizer .*two"):
        build(source, tmp_path / "bundle")


def test_options_that_have_no_effect_are_refused(tmp_path: Path) -> None:
    source = save_ids_model(tmp_path / "model")
    tokenizer = with_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(SourceError, match="--word_split: model takes token ids"):
        build(source, tmp_path / "bundle", word_split="spaces")
    with pytest.raises(SourceError, match=f"--max_tokens 40: model takes exactly {LENGTH} tokens"):
        build(source, tmp_path / "bundle", max_tokens=40, tokenizer=tokenizer)
    assert build(source, tmp_path / "bundle", max_tokens=8).manifest.max_tokens == 8


# --- outputs


def save_two_outputs(path: Path) -> Path:
    def call(rows: Any, text: Any) -> Any:
        vector = tf.gather(rows, tf.strings.to_hash_bucket_fast(text, BUCKETS))
        return {"vector": vector, "mood": tf.nn.softmax(vector[:, :3]), "logits": vector[:, :2] * 9}

    return save(path, call, text=spec("string", None))


def test_one_of_several_outputs_has_to_be_named(tmp_path: Path) -> None:
    source = save_two_outputs(tmp_path / "model")
    with pytest.raises(SourceError, match=r"(?s)--default_output logits.*mood.*vector"):
        build(source, tmp_path / "none")
    vectors = build(source, tmp_path / "vectors", default_output="vector")
    assert vectors.manifest.task == "embed"
    assert Encoder(vectors).encode(["a"]).shape == (1, DIM)


def test_classes_get_names_and_scores(tmp_path: Path) -> None:
    source = save_two_outputs(tmp_path / "model")
    labels = tmp_path / "labels.txt"
    labels.write_text("sad\nso-so\nglad\n")
    mood = build(source, tmp_path / "mood", default_output="mood", labels=labels)
    assert (mood.manifest.labels, mood.manifest.scores) == (("sad", "so-so", "glad"), "as_is")
    classes = Classifier(mood).classify(["a", "b"])
    np.testing.assert_allclose(classes.scores.sum(axis=1), 1, atol=1e-5)
    (tmp_path / "labels.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    either = build(source, tmp_path / "either", default_output="logits", labels=tmp_path / "labels.json")
    assert (either.manifest.labels, either.manifest.scores) == (("no", "yes"), "softmax")
    with pytest.raises(SourceError, match=r"3 labels, but model returns 2 numbers"):
        build(source, tmp_path / "none", default_output="logits", labels=labels)


def test_a_fixed_number_of_texts_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "model", lambda rows, text: {"a": rows[: tf.size(text)]}, text=spec("string", 4))
    with pytest.raises(SourceError, match="for exactly 4 texts at a time"):
        build(source, tmp_path / "bundle")


def test_a_signature_has_to_be_named_where_none_is_usual(tmp_path: Path) -> None:
    module = tf.Module()
    texts = tf.TensorSpec([None], tf.string, name="text")

    def lengths(text: Any) -> dict[str, Any]:
        return {"size": tf.cast(tf.strings.length(text), tf.float32)}

    one = tf.function(lengths, autograph=False).get_concrete_function(texts)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"first": one, "second": one})
    with pytest.raises(SourceError, match=r"(?s)needs --signature. It has:.*first\(.*second\("):
        build(tmp_path / "model", tmp_path / "none")
    assert build(tmp_path / "model", tmp_path / "bundle", signature="second").manifest.signature == "second"


# --- the command


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_the_command_loads_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mlp3.keras"
    mlp(dropout=True).save(source)
    arguments = ["build", "keras", str(source), "--output", str(tmp_path / "bundle")]
    columns = "digits=age,x_1..x_19"
    assert main([*arguments, "--extra_input", columns, "--origin", "home", "--licence", "MIT"]) == 0
    printed = capsys.readouterr().out
    assert "loaded by Keras 3" in printed
    assert "all 6 weights were found in mlp3.keras" in printed
    manifest = ModelBundle.open(tmp_path / "bundle").manifest
    assert manifest.inputs["digits"].columns[:2] == ("age", "x_1")
    assert list(manifest.source.files) == ["mlp3.keras"]
    assert (manifest.source.location, manifest.licence) == ("home", "MIT")


def test_a_module_without_signatures_is_called(tmp_path: Path) -> None:
    module = tf.Module()
    module.table = tf.Variable(table(5))
    texts = tf.TensorSpec([None], tf.string, name="text")
    ids = tf.strings.to_hash_bucket_fast
    module.__call__ = tf.function(lambda text: {"vector": tf.gather(module.table, ids(text, BUCKETS))})
    module.__call__.get_concrete_function(texts)
    tf.saved_model.save(module, str(tmp_path / "model"))
    assert Encoder(build(tmp_path / "model", tmp_path / "bundle")).encode(["a"]).shape == (1, DIM)


# --- inputs that nothing depends on


def test_an_export_of_google_needs_no_column_for_its_labels(tmp_path: Path) -> None:
    folder = shared_path("cases/models/google_export")
    built = build_keras_bundle(
        folder / "1551487035", KerasChoices(default_output="probabilities"), tmp_path / "bundle"
    )
    manifest = built.bundle.manifest
    assert (sorted(manifest.inputs), manifest.zero_inputs) == (
        ["input_ids", "input_mask", "segment_ids"],
        ("label_ids",),
    )
    assert "input label_ids: zeros, because no output used depends on it" in built.notes
    assert "no output depends on them" in str(dict(_facts(built.bundle))["zeros for"])
    recorded = json.loads((folder / "expected.json").read_text())
    found = Encoder(built.bundle).encode(recorded["texts"])
    np.testing.assert_allclose(found, recorded["exp"], atol=1e-5)


def with_labels(rows: Any, text: Any, label_ids: Any) -> dict[str, Any]:
    vector = tf.gather(rows, tf.strings.to_hash_bucket_fast(text, BUCKETS))
    return {"vector": vector, "loss": vector * tf.cast(label_ids, tf.float32)[:, tf.newaxis]}


def test_an_output_that_depends_on_an_unused_input_is_left_out(tmp_path: Path) -> None:
    source = save(tmp_path / "model", with_labels, text=spec("string", None), label_ids=spec("int32", None))
    with pytest.raises(SourceError, match="label_ids=COLUMN"):
        build(source, tmp_path / "none", default_output="loss")
    with pytest.raises(SourceError, match="label_ids=COLUMN"):
        build(source, tmp_path / "none")  # which output is wanted is not known
    manifest = build(source, tmp_path / "bundle", default_output="vector").manifest
    assert (list(manifest.inputs), list(manifest.outputs)) == (["text"], ["vector"])
    column = build(source, tmp_path / "own", default_output="vector", extra_inputs={"label_ids": ("label",)})
    assert (column.manifest.zero_inputs, sorted(column.manifest.outputs)) == ((), ["loss", "vector"])


@pytest.mark.parametrize(("depth", "found"), [(10, {"used"}), (3_000, {"used", "unused"})])
def test_calls_inside_calls_are_followed_to_a_depth(depth: int, found: set[str]) -> None:
    """A chain that no model has ends neither Python nor the build: all of its inputs count as used."""
    library = []
    for level in range(depth):
        one = FunctionDef()
        one.signature.name = f"f{level}"
        for name in ("used", "unused"):
            one.signature.input_arg.add(name=name, type=1)
        one.signature.output_arg.add(name="y", type=1)
        one.ret["y"] = "used"
        if level + 1 < depth:
            node = one.node_def.add(name="call", op="PartitionedCall", input=["used", "unused"])
            node.attr["f"].func.name = f"f{level + 1}"
            one.ret["y"] = "call:output:0"
        library.append(one)
    node = NodeDef(name="call", op="PartitionedCall", input=["used", "unused"])
    node.attr["f"].func.name = "f0"
    assert _Paths(library).back({"call": node}, ["used", "unused"], "call:0") == found


def test_unused_inputs_of_every_type_and_shape_get_zeros() -> None:
    inputs = {"label_ids": spec("int64", None, None, 3), "example": spec("string", None, 2)}
    function = ModuleFunction(
        "one", {"text": spec("string", None), "real": spec("bool", None), **inputs}, lambda **fed: dict(fed)
    )
    found, unused = without_unused(function, "text", ())
    assert (unused, list(found.inputs)) == (("example", "label_ids", "real"), ["text"])
    assert {name: inputs_of_outputs(function)[name] for name in inputs} == {name: {name} for name in inputs}
    seen: dict[str, Any] = {}
    whole = replace(function, call=lambda **fed: seen.update(fed) or {"text": fed["text"]})
    without_unused(whole, "text", ())[0].call(text=tf.constant(["a", "b"]))
    assert {name: tensor.shape.as_list() for name, tensor in seen.items()} == {
        "text": [2],
        "real": [2],
        "label_ids": [2, 1, 3],
        "example": [2, 2],
    }
    assert without_unused(replace(function, call=lambda **_: {"one": tf.ones([2])}), None, ())[1] == ()


def test_what_an_input_leaves_in_the_model_is_a_use() -> None:
    kept = tf.Variable([0.0])

    def call(text: Any, bias: Any) -> dict[str, Any]:
        kept.assign(bias[:1])
        return {"vector": tf.fill([tf.size(text), 2], kept[0])}

    function = ModuleFunction("one", {"text": spec("string", None), "bias": spec("float32", None)}, call)
    assert without_unused(function, None, ())[1] == ()

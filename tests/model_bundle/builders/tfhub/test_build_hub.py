"""Modules of TF-Hub to bundles: what the module gives, the bundle gives, in memory and through a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.tfhub.build import build_hub_bundle, golden_check
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR
from model_bundle.bundle.specs import Pooling
from model_bundle.cli.main import main
from model_bundle.errors import SourceError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.verify import verify
from model_bundle.runtime.golden import Golden
from tests.conftest import shared_path
from tests.support.models.hub_modules import DIM, Toy, save_named, save_sentence_encoder, save_signatures
from tests.support.runs.jobs import run_job, vectors_of, write_texts

TEXTS = ["the cat sat", "dogs run", "one", "  two  words  "]


def build(handle: Any, output: Path, **choices: Any) -> ModelBundle:
    return build_hub_bundle(str(handle), HubChoices(**choices), output).bundle


@pytest.fixture(scope="module")
def toy_elmo(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A module that TensorFlow 1.15 and tensorflow_hub 0.7 made, with what they computed."""
    module = shared_path("fixtures/keras_legacy/dev/toy_elmo")
    return build(module, tmp_path_factory.mktemp("hub") / "toy_elmo")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    path = shared_path("fixtures/keras_legacy/dev/toy_elmo.expected.json")
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def test_elmo_words_are_what_tf1_computed(toy_elmo: ModelBundle, recorded: dict[str, Any]) -> None:
    encoder = Encoder(toy_elmo, layers=("elmo", "word_emb", "lstm_outputs1", "lstm_outputs2"), rows="word")
    for layer, found in encoder.encode_outputs(["the cat sat", "dogs run"]).items():
        states = np.array(recorded["tokens"]["outputs"][layer])
        np.testing.assert_allclose(found, np.concatenate([states[0], states[1, :2]]), atol=1e-5)


@pytest.mark.parametrize("layers", [(), ("default",)])
def test_elmo_documents_are_means_of_words(
    toy_elmo: ModelBundle, recorded: dict[str, Any], layers: tuple[str, ...]
) -> None:
    texts, outputs = recorded["default"]["input"], recorded["default"]["outputs"]
    real = [index for index, text in enumerate(texts) if text]
    found = Encoder(toy_elmo, layers=layers).encode([texts[index] for index in real])
    np.testing.assert_allclose(found, np.array(outputs["default"])[real], atol=1e-5)


def test_elmo_manifest_is_read_from_the_module(toy_elmo: ModelBundle) -> None:
    manifest = toy_elmo.manifest
    assert (manifest.signature, manifest.default_output, manifest.pooling) == ("tokens", "elmo", Pooling.MEAN)
    roles = {name: (spec.role, spec.dtype) for name, spec in manifest.inputs.items()}
    assert roles == {"tokens": ("words", "string"), "sequence_len": ("lengths", "int32")}
    assert list(toy_elmo.token_layers) == ["default", "elmo", "lstm_outputs1", "lstm_outputs2", "word_emb"]
    assert not manifest.batch_dependent
    assert manifest.min_batch == 1
    assert set(manifest.source.files) >= {"saved_model.pb", "tfhub_module.pb"}


def test_signatures_survive_and_give_the_same(toy_elmo: ModelBundle) -> None:
    import tensorflow_hub as hub

    module = hub.load(str(shared_path("fixtures/keras_legacy/dev/toy_elmo")))
    saved = hub.load(str(toy_elmo.path / SAVED_MODEL_DIR))
    assert set(saved.signatures) == {"default", "tokens"}
    fed = {"tokens": tf.constant([["the", "cat"], ["dogs", ""]]), "sequence_len": tf.constant([2, 1])}
    for name, inputs in (("tokens", fed), ("default", {"strings": tf.constant(["the cat", "", "dogs"])})):
        found, expected = saved.signatures[name](**inputs), module.signatures[name](**inputs)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value)


@pytest.mark.slow
def test_the_older_toy_through_the_command_and_a_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, bundle = shared_path("fixtures/tf1_hub_toy_elmo"), tmp_path / "bundle"
    assert main(["build", "hub", str(module), "--output", str(bundle)]) == 0
    assert "uses tokens(sequence_len: int32[?], tokens: string[?, ?])" in capsys.readouterr().out
    assert len(list(verify(bundle))) == 7
    source = write_texts(tmp_path / "texts.jsonl", [*TEXTS, "", " "])
    run = run_job(tmp_path / "out", bundle, "--input", source, "--id_column", "id", "--layer", "elmo")
    assert run.exit_code == 0, run.stderr
    expected = Encoder(bundle).encode(TEXTS)
    order = np.argsort(run.column("doc_id"))
    np.testing.assert_allclose(vectors_of(run.rows)[order], expected, atol=1e-6)
    assert set(run.reasons) == {"4", "5"}  # blank texts are no rows

    strings = build(module, tmp_path / "strings", signature="default")
    assert strings.manifest.tokenizer.kind == "text"
    assert strings.manifest.inputs["strings"].role == "text"
    np.testing.assert_allclose(Encoder(strings).encode(TEXTS), expected, atol=1e-5)


def test_a_calls_named_outputs_come_before_an_anonymous_signature(tmp_path: Path) -> None:
    module = save_named(tmp_path / "module")
    built = build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")
    outputs = {name: (spec.kind, spec.dim) for name, spec in built.bundle.manifest.outputs.items()}
    assert outputs == {
        "states": ("token", DIM),
        "sequence_len": ("length", None),
        "default": ("text", DIM),
        "doubles_0": ("text", DIM),
    }
    assert any(note.startswith("output scores is left out: it is int32[4]") for note in built.notes)
    toy = Toy()
    expected = toy.mean(tf.constant(TEXTS))
    np.testing.assert_allclose(Encoder(built.bundle).encode(TEXTS), expected, atol=1e-6)
    pooled = Encoder(built.bundle, layers=("states",), pooling="mean").encode(TEXTS)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    saved = tf.saved_model.load(str(built.bundle.path / SAVED_MODEL_DIR))
    assert set(saved.signatures) == {"call", "serving_default"}


def test_a_sentence_encoder_keeps_its_vocabulary(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocabulary.txt"
    module = save_sentence_encoder(tmp_path / "module", vocabulary)
    expected = tf.saved_model.load(str(module))(tf.constant(TEXTS)).numpy()
    bundle = build(module, tmp_path / "bundle")
    assert build(module, tmp_path / "again").digest == bundle.digest
    for path in sorted(module.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    vocabulary.unlink()
    assert bundle.manifest.tokenizer.kind == "text"
    assert bundle.manifest.outputs[bundle.manifest.default_output].kind == "text"
    assert bundle.manifest.pooling is None
    np.testing.assert_allclose(Encoder(bundle).encode(TEXTS), expected, atol=1e-6)
    source = write_texts(tmp_path / "texts.jsonl", TEXTS)
    run = run_job(tmp_path / "out", bundle.path, "--input", source, "--id_column", "id")
    order = np.argsort(run.column("doc_id"))
    np.testing.assert_allclose(vectors_of(run.rows)[order], expected, atol=1e-6)


def test_padding_in_a_mean_is_noticed_and_kept_out(tmp_path: Path) -> None:
    """As the default output of google/elmo 1 and 2 does: such texts only share batches of one length."""
    toy = Toy()

    def mean_with_padding(inputs: Any) -> dict[str, Any]:
        return {"outputs": tf.reduce_mean(toy.words(inputs)[0], axis=1)}

    module = save_signatures(tmp_path / "module", toy, serving_default=mean_with_padding)
    built = build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")
    assert built.bundle.manifest.batch_dependent
    assert any("batches contain texts of equal length" in note for note in built.notes)
    texts = ["one", "two words", "and three words", "other"]
    together, encoder = Encoder(built.bundle).encode(texts), Encoder(built.bundle)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_module_that_fails_on_one_text_never_gets_one(tmp_path: Path) -> None:
    toy = Toy()

    def squeezed(inputs: Any) -> dict[str, Any]:
        return {"outputs": toy.mean(tf.squeeze(inputs))}

    module = save_signatures(tmp_path / "module", toy, serving_default=squeezed)
    built = build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")
    assert built.bundle.manifest.min_batch == 2
    found = Encoder(built.bundle).encode(["a cat"])
    np.testing.assert_allclose(found, toy.mean(tf.constant(["a cat"])), atol=1e-6)


def test_a_bundle_that_differs_from_its_module_is_refused() -> None:
    class Reference:
        def run(self, _: Any) -> dict[str, np.ndarray]:
            return {"states": np.ones((1, 3, 2), np.float32)}

    states = np.ones((1, 3, 2), np.float32)
    states[0, 2] = 7.0  # padding may hold anything
    mask = np.array([[1, 1, 0]], np.int32)
    golden_check(Reference())(Golden(("a b",), {}, {"states": states.copy()}, mask))
    states[0, 1, 0] = 1.01
    with pytest.raises(SourceError, match=r"Output states .* by 0\.01 of its size"):
        golden_check(Reference())(Golden(("a b",), {}, {"states": states}, mask))

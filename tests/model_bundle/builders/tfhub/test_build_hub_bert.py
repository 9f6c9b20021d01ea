"""A BERT encoder of TF-Hub and its preprocessing module become one bundle that takes texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.assemble import Built
from model_bundle.builders.tfhub.build import build_hub_bundle
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.bundle.manifest import SAVED_MODEL_DIR
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import SourceError
from model_bundle.inference.encoder import Encoder
from tests.support.models.hub_modules import DIM, save_encoder, save_preprocess, save_sentence_encoder

TEXTS = ["the cat sat on the mat", "dogs run", "", "one " * 30]


@pytest.fixture(scope="module")
def preprocess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_preprocess(tmp_path_factory.mktemp("hub") / "preprocess")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("hub") / "encoder")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: Path, preprocess: Path) -> Built:
    choices = HubChoices(preprocess=str(preprocess))
    return build_hub_bundle(str(encoder), choices, tmp_path_factory.mktemp("bundles") / "bert")


@pytest.fixture(scope="module")
def expected(encoder: Path, preprocess: Path) -> dict[str, Any]:
    """What the two modules give when they are called one after the other, with the mask."""
    ids = tf.saved_model.load(str(preprocess))(tf.constant(TEXTS))
    outputs = tf.saved_model.load(str(encoder))(ids, False)
    return {**outputs, "mask": ids["input_mask"].numpy()[:, :, np.newaxis]}


def means(states: Any, mask: np.ndarray) -> np.ndarray:
    total: np.ndarray = (np.asarray(states) * mask).sum(axis=1) / mask.sum(axis=1)
    return total


def test_manifest(built: Built) -> None:
    manifest = built.bundle.manifest
    assert {name: spec.role for name, spec in manifest.inputs.items()} == {"text": "text"}
    assert (manifest.default_output, manifest.pooling) == ("sequence_output", Pooling.MEAN)
    assert manifest.outputs["sequence_len"].kind == "length"
    assert not manifest.batch_dependent
    layers = built.bundle.token_layers
    assert layers == {
        "1": "encoder_outputs_0",
        "2": "encoder_outputs_1",
        "pooled_output": "pooled_output",
        "sequence_output": "sequence_output",
    }
    assert built.bundle.output_for("-1") == "encoder_outputs_1"
    assert {"saved_model.pb", "preprocess/saved_model.pb"} <= manifest.source.files.keys()
    assert any("truncates texts to 16 tokens" in note for note in built.notes)


def test_mean_pooling_leaves_padding_out(built: Built, expected: dict[str, Any]) -> None:
    found = Encoder(built.bundle).encode(TEXTS)
    np.testing.assert_allclose(found, means(expected["sequence_output"], expected["mask"]), atol=1e-5)


def test_layers_and_pooler(built: Built, expected: dict[str, Any]) -> None:
    first = Encoder(built.bundle, layers=("1",), pooling="first").encode(TEXTS)
    np.testing.assert_allclose(first, expected["encoder_outputs"][0][:, 0], atol=1e-5)
    pooled = Encoder(built.bundle, layers=("pooled_output",)).encode(TEXTS)
    np.testing.assert_allclose(pooled, expected["pooled_output"], atol=1e-5)


def test_padding_that_no_text_needs_is_not_computed(built: Built) -> None:
    signature = tf.saved_model.load(str(built.bundle.path / SAVED_MODEL_DIR)).signatures["serving_default"]
    outputs = signature(text=tf.constant(["dogs run", "one two three"]))
    assert outputs["sequence_output"].shape == (2, 5, DIM)  # three words, [CLS] and [SEP]
    assert outputs["sequence_len"].numpy().tolist() == [4, 5]


def test_an_encoder_that_sees_padding_keeps_all_of_it(tmp_path: Path, preprocess: Path) -> None:
    module = save_encoder(tmp_path / "encoder", sees_mask=False)
    built = build_hub_bundle(str(module), HubChoices(preprocess=str(preprocess)), tmp_path / "bundle")
    assert not built.bundle.manifest.batch_dependent  # all texts are padded to the same length
    ids = tf.saved_model.load(str(preprocess))(tf.constant(TEXTS))
    expected = tf.saved_model.load(str(module))(ids, False)["pooled_output"]
    found = Encoder(built.bundle, layers=("pooled_output",)).encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_encoder_alone_asks_for_its_preprocessing(tmp_path: Path, encoder: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)takes token ids: call\(input_mask: .*--preprocess HANDLE"):
        build_hub_bundle(str(encoder), HubChoices(), tmp_path / "bundle")


def test_preprocessing_that_makes_no_ids_is_refused(tmp_path: Path, encoder: Path) -> None:
    other = save_sentence_encoder(tmp_path / "other", tmp_path / "vocabulary.txt")
    with pytest.raises(SourceError, match=r"returns token ids with a mask.*It has: serving_default\(inputs"):
        build_hub_bundle(str(encoder), HubChoices(preprocess=str(other)), tmp_path / "bundle")
    with pytest.raises(SourceError, match=r"takes no token ids\. Omit the option"):
        build_hub_bundle(str(other), HubChoices(preprocess=str(encoder)), tmp_path / "bundle")


def test_choices_that_need_words_are_refused(tmp_path: Path, encoder: Path, preprocess: Path) -> None:
    for choice in ({"max_tokens": 5}, {"word_split": "unicode"}):
        choices = HubChoices(preprocess=str(preprocess), **choice)
        with pytest.raises(SourceError, match=f"--{next(iter(choice))} .* splits words itself"):
            build_hub_bundle(str(encoder), choices, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()

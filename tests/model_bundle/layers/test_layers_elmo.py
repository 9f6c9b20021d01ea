"""Keras layers on ELMo: texts or words in, a mix whose numbers really train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.encoder import Encoder
from model_bundle.layers import BundleEmbedding, ScalarMix
from model_bundle.layers.keras_setup import keras, tf
from tests.support.models.tiny_elmo import build_tiny_elmo

# Keras converts its own variables in a way that numpy 2 has said the end of.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
TEXTS = ("a text of six words here", "another  one ", "x")
LABELS = np.array([0, 1, 1])
DIM = 12


@pytest.fixture(scope="module")
def bundle(tiny_elmo: Path) -> ModelBundle:
    return ModelBundle.open(tiny_elmo)


@pytest.fixture(scope="module")
def every_layer(bundle: ModelBundle) -> BundleEmbedding:
    return BundleEmbedding(bundle, layer="all")


@pytest.fixture(scope="module")
def trainable(bundle: ModelBundle) -> BundleEmbedding:
    return BundleEmbedding(bundle, trainable=True)


def train(model: Any, fed: Any) -> None:
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.fit(fed, LABELS, epochs=3, verbose=0)


@pytest.mark.slow
def test_texts_and_words_are_one_thing(bundle: ModelBundle, trainable: BundleEmbedding) -> None:
    embedding = trainable
    from_texts = embedding(tf.constant(TEXTS))
    fed = embedding.tokenize(TEXTS)
    np.testing.assert_allclose(from_texts, embedding(fed), atol=1e-6)
    np.testing.assert_allclose(from_texts, embedding(fed["tokens"]), atol=1e-6)
    np.testing.assert_array_equal(from_texts._keras_mask.numpy().sum(axis=1), [6, 2, 1])
    pooled = keras.layers.GlobalAveragePooling1D()(from_texts)
    np.testing.assert_allclose(pooled, Encoder(bundle).encode(TEXTS), atol=1e-6)
    cut = BundleEmbedding(bundle, max_tokens=3)(tf.constant(TEXTS))
    assert cut.shape == (3, 3, DIM)
    expected = Encoder(bundle, max_tokens=3).encode(TEXTS)
    np.testing.assert_allclose(keras.layers.GlobalAveragePooling1D()(cut), expected, atol=1e-6)


@pytest.mark.slow
def test_a_layer_of_its_own_name(bundle: ModelBundle) -> None:
    found = BundleEmbedding(bundle, layer="lstm_outputs1", pooling="mean")(tf.constant(TEXTS))
    expected = Encoder(bundle, layers=("lstm_outputs1",), pooling="mean").encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("normalize", [True, False])
def test_the_mix_trains(every_layer: BundleEmbedding, trainable: BundleEmbedding, normalize: bool) -> None:
    embedding = every_layer
    mix = ScalarMix(normalize=normalize)
    texts = keras.Input((), dtype="string")
    pooled = keras.layers.GlobalAveragePooling1D()(mix(embedding(texts)))
    model = keras.Model(texts, keras.layers.Dense(2, activation="softmax")(pooled))
    fed = tf.constant(TEXTS)
    # Untrained, it is the bundle's own: the plain mean of the layers.
    np.testing.assert_allclose(mix(embedding(fed)), trainable(fed), atol=1e-6)
    together = model(fed).numpy()
    np.testing.assert_allclose(together, np.concatenate([model(fed[i : i + 1]) for i in range(3)]), atol=1e-6)
    before = [np.array(weight.numpy()) for weight in mix.weights]
    train(model, fed)
    scalars, gamma = (np.abs(w.numpy() - old).max() for w, old in zip(mix.weights, before, strict=True))
    assert scalars > 1e-4
    assert gamma > 1e-4


@pytest.mark.slow
def test_punctuation_is_not_split_in_the_graph(tmp_path: Any) -> None:
    embedding = BundleEmbedding(build_tiny_elmo(tmp_path, word_split="unicode"))
    assert embedding.tokenize(["a cat."])["tokens"].shape == (1, 3)
    with pytest.raises(ValueError, match=r"also splits at punctuation, .*layer\.tokenize"):
        embedding(tf.constant(["a cat."]))


@pytest.mark.slow
def test_a_trainable_elmo_trains_its_mix_and_nothing_else(trainable: BundleEmbedding) -> None:
    embedding = trainable
    assert [weight.name for weight in embedding.trainable_weights] == [
        "scaling",
        "weights",
    ]
    before = {weight.name: np.array(weight.numpy()) for weight in embedding.weights}
    pool, dense = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input((), dtype="string"), embedding, pool, dense])
    train(model, tf.constant(TEXTS))
    moved = {w.name: float(np.abs(w.numpy() - before[w.name]).max()) for w in embedding.weights}
    assert {name for name, distance in moved.items() if distance} == {
        "scaling",
        "weights",
    }
    assert min(moved["scaling"], moved["weights"]) > 1e-4

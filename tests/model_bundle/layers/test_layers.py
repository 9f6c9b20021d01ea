"""Keras layers on a BERT bundle: what they give, what trains, what padding does, what they refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.encoder import Encoder
from model_bundle.layers import BundleEmbedding, ScalarMix
from model_bundle.layers.graph import BundleGraph
from model_bundle.layers.keras_setup import keras, tf
from tests.support.models.tiny import DIM

# Keras converts its own variables in a way that numpy 2 has said the end of.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
TEXTS = ("the cat", "a dog ran home on the mat and sat", "quick")
LONG = "the quick brown dog ran home and sat on the mat"


@pytest.fixture(scope="module")
def bundle(tiny_plain_bundle: Path) -> ModelBundle:
    return ModelBundle.open(tiny_plain_bundle)


def classifier(embedding: BundleEmbedding, *, activation: str = "softmax") -> Any:
    inputs = embedding.make_inputs()
    pooled = keras.layers.GlobalAveragePooling1D()(embedding(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, activation=activation, name="scores")(pooled))


def alone(call: Any, embedding: BundleEmbedding) -> np.ndarray:
    return np.concatenate([call(embedding.tokenize([text])) for text in TEXTS])


def test_vectors_are_those_of_the_encoder(bundle: ModelBundle) -> None:
    embedding = BundleEmbedding(bundle)
    fed = embedding.tokenize(TEXTS)
    states = embedding(fed)
    pooled = keras.layers.GlobalAveragePooling1D()(states)
    np.testing.assert_allclose(pooled, Encoder(bundle).encode(TEXTS), atol=1e-5)
    np.testing.assert_array_equal(states._keras_mask, fed["attention_mask"] > 0)
    for pooling in ("mean", "max", "first", "last"):
        vectors = BundleEmbedding(bundle, pooling=pooling, normalize=True)(fed)
        expected = Encoder(bundle, pooling=pooling, normalize=True).encode(TEXTS)
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    below = BundleEmbedding(bundle.path, layer="1", pooling="mean")(fed)
    np.testing.assert_allclose(below, Encoder(bundle, layers=("1",), pooling="mean").encode(TEXTS), atol=1e-5)


def test_neighbours_and_padding_change_nothing(bundle: ModelBundle) -> None:
    embedding = BundleEmbedding(bundle)
    model = classifier(embedding)
    together = model(embedding.tokenize(TEXTS)).numpy()
    np.testing.assert_allclose(together, alone(model, embedding), atol=1e-6)
    # Without the mask they would.
    states = embedding(embedding.tokenize(TEXTS))
    assert np.abs(np.asarray(states).mean(axis=1) - Encoder(bundle).encode(TEXTS)).max() > 0.01


def test_max_tokens_fills_up_and_cuts_as_the_tokenizer_does(bundle: ModelBundle) -> None:
    embedding = BundleEmbedding(bundle, max_tokens=6)
    whole = BundleEmbedding(bundle).tokenize([LONG, "cat"])
    assert whole["input_ids"].shape[1] > 6
    cut = embedding.tokenize([LONG, "cat"])
    assert cut["input_ids"].shape[1] == 6
    # What is too long is cut in the layer, too, and its last token stays.
    np.testing.assert_allclose(embedding(whole), embedding(cut), atol=1e-6)
    short = embedding(embedding.tokenize(["cat"]))
    assert short.shape == (1, 6, DIM)
    np.testing.assert_array_equal(short._keras_mask, [[True, True, True, False, False, False]])
    pooled = keras.layers.GlobalAveragePooling1D()(embedding(whole))
    np.testing.assert_allclose(pooled, Encoder(bundle, max_tokens=6).encode([LONG, "cat"]), atol=1e-5)
    assert embedding(embedding.make_inputs()).shape == (None, 6, DIM)


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras is not typed
    def __init__(self, embedding: BundleEmbedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.pool = keras.layers.GlobalAveragePooling1D()
        self.scores = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.scores(self.pool(self.embedding(inputs)))


def test_every_kind_of_model(bundle: ModelBundle) -> None:
    keras.utils.set_random_seed(3)
    embedding = BundleEmbedding(bundle)
    pool, dense = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)
    sequential = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, pool, dense])
    fed = embedding.tokenize(TEXTS)
    subclassed = Subclassed(embedding)
    subclassed(fed)
    subclassed.scores.set_weights(dense.get_weights())
    inputs = embedding.make_inputs()
    functional = keras.Model(inputs, dense(pool(embedding(inputs))))
    expected = functional(fed)
    # Ids alone: padding is what has the pad id. Scores of 2.5 are sums in float32, in any order.
    np.testing.assert_allclose(sequential(fed["input_ids"]), expected, atol=5e-6)
    np.testing.assert_allclose(sequential.predict(fed["input_ids"], verbose=0), expected, atol=5e-6)
    np.testing.assert_allclose(subclassed(fed), expected, atol=5e-6)


def test_numbers_beside_the_text(bundle: ModelBundle) -> None:
    embedding = BundleEmbedding(bundle, pooling="mean")
    inputs = embedding.make_inputs()
    numbers = keras.Input((3,), name="numbers")
    joined = keras.layers.Concatenate()([embedding(inputs), numbers])
    model = keras.Model({**inputs, "numbers": numbers}, keras.layers.Dense(2)(joined))
    model.compile("sgd", "mse")
    fed = {**embedding.tokenize(TEXTS), "numbers": np.eye(3, dtype=np.float32)}
    before = model.predict(fed, verbose=0)
    assert before.shape == (3, 2)
    model.fit(fed, np.ones((3, 2)), epochs=20, verbose=0)
    assert np.abs(model.predict(fed, verbose=0) - 1).mean() < np.abs(before - 1).mean()


def weights(layer: Any) -> dict[str, np.ndarray]:
    return {weight.name: np.array(weight.numpy()) for weight in layer.weights}


def train(model: Any, fed: Any, epochs: int = 3) -> None:
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    model.fit(fed, np.array([0, 1, 1]), epochs=epochs, verbose=0)


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.nan_to_num(np.abs(after[name] - old)).max()) for name, old in before.items()}


def test_frozen_weights_stay_and_trainable_ones_learn(bundle: ModelBundle) -> None:
    embedding = BundleEmbedding(bundle)
    model = classifier(embedding)
    assert embedding.trainable_variables == []
    before = weights(embedding)
    train(model, embedding.tokenize(TEXTS))
    assert set(moved(before, weights(embedding)).values()) == {0.0}
    embedding.trainable = True
    train(model, embedding.tokenize(TEXTS))
    found = moved(before, weights(embedding))
    still = {name for name, distance in found.items() if distance < 1e-5}
    # The pooler is not on the way to the states. Softmax does not see what is added to every key.
    assert still == {"pooler.kernel", "pooler.bias"}
    assert found["embeddings.word"] > 1e-3
    states_1 = BundleEmbedding(bundle, layer="1", trainable=True)
    assert {w.name.split(".")[0] for w in states_1.trainable_variables} == {"embeddings", "layer_0"}
    pooler = BundleEmbedding(bundle, layer=None, pooling="first", trainable=True)
    assert len(pooler.trainable_variables) == len(embedding.trainable_variables)


def test_gradients_are_those_of_the_loss(bundle: ModelBundle) -> None:
    """Against differences of the loss: our norm is spelled as a batch norm, whose gradient must fit, too."""
    embedding = BundleEmbedding(bundle, trainable=True)
    fed = embedding.tokenize(TEXTS)
    direction = tf.constant(np.random.default_rng(0).normal(size=DIM), tf.float32)

    def loss() -> Any:
        pooled = keras.layers.GlobalAveragePooling1D()(embedding(fed))
        return tf.reduce_sum(tf.linalg.matvec(pooled, direction))

    for name in ("embeddings.norm.gamma", "layer_0.attention.qkv.kernel", "layer_1.ffn.norm.beta"):
        weight = next(one for one in embedding.trainable_variables if one.name == name)
        with tf.GradientTape() as tape:
            value = loss()
        gradient = tape.gradient(value, weight.value).numpy()
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        old = np.array(weight.numpy())
        values = []
        for step in (1e-2, -1e-2):
            changed = old.copy()
            changed[place] += step
            weight.assign(changed)
            values.append(float(loss()))
        weight.assign(old)
        assert (values[0] - values[1]) / 2e-2 == pytest.approx(gradient[place], rel=0.02)


@pytest.mark.parametrize("normalize", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_mix_of_bert_layers_trains(bundle: ModelBundle, normalize: bool) -> None:
    embedding = BundleEmbedding(bundle, layer="all")
    mix = ScalarMix(normalize=normalize)
    inputs = embedding.make_inputs()
    states = mix(embedding(inputs))
    pooled = keras.layers.GlobalAveragePooling1D()(states)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    fed = embedding.tokenize(TEXTS)
    layers = [np.asarray(one) for one in embedding(fed)]
    np.testing.assert_allclose(mix([*layers]), np.mean(layers, axis=0), atol=1e-6)
    np.testing.assert_allclose(model(fed), alone(model, embedding), atol=1e-6)
    before = weights(mix)
    train(model, fed)
    distances = moved(before, weights(mix))
    assert distances["scalars"] > 1e-3
    assert distances["gamma"] > 1e-3
    factors = np.array(mix.scalars.numpy())
    if normalize:
        factors = np.exp(factors) / np.exp(factors).sum()
    expected = float(mix.gamma.numpy()) * np.tensordot(factors, np.stack(layers), axes=1)
    np.testing.assert_allclose(mix(layers), expected, atol=1e-5)


def test_a_mix_averages_real_tokens_alone() -> None:
    mix = ScalarMix(pooling="mean")
    states = tf.constant([[[2.0, 4.0], [np.nan, 9.0]], [[1.0, 1.0], [3.0, 5.0]]])
    mask = tf.constant([[True, False], [True, True]])
    np.testing.assert_allclose(mix([states, states], mask=[mask, mask]), [[2.0, 4.0], [2.0, 3.0]])
    assert ScalarMix(pooling="mean").compute_output_shape([(None, 7, 4)] * 3) == (None, 4)
    restored = ScalarMix.from_config(ScalarMix(normalize=False, pooling="mean", name="m").get_config())
    assert (restored.normalize, restored.pooling, restored.name) == (False, "mean", "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "9"}, "--layer 9: the bundle tiny has no such layer"),
        ({"max_tokens": 65}, "max_tokens=65: tiny takes 1 to 64 tokens"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"pooling": "pooler"}, "expected mean, max, first, last, mean_sqrt_len or weighted_mean"),
        ({"normalize": True}, "also set pooling="),
    ],
)
def test_options_that_do_not_fit(bundle: ModelBundle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BundleEmbedding(bundle, **options)


def test_what_is_no_list_of_layers_is_no_mix() -> None:
    with pytest.raises(ValueError, match="takes a list of layers"):
        ScalarMix()(tf.zeros([1, 2, 3]))
    with pytest.raises(ValueError, match="different shapes"):
        ScalarMix()([tf.zeros([1, 2, 3]), tf.zeros([1, 2, 4])])
    with pytest.raises(ValueError, match="expected None or 'mean'"):
        ScalarMix(pooling="max")


def test_texts_are_no_ids(bundle: ModelBundle) -> None:
    with pytest.raises(ValueError, match=r"layer\.tokenize\(texts\)"):
        BundleEmbedding(bundle)(tf.constant(["the cat"]))
    with pytest.raises(ValueError, match="unknown: \\['tokens'\\]"):
        BundleEmbedding(bundle)({"tokens": tf.constant([[1]])})


def test_imported_graphs_stay_frozen(text_bundle: Path) -> None:
    embedding = BundleEmbedding(text_bundle)
    np.testing.assert_allclose(embedding(tf.constant(["cat", "a cat"])), [[3, 1], [5, 1]])
    with pytest.raises(ValueError, match="is of the family saved_model, which stays frozen"):
        BundleEmbedding(text_bundle, trainable=True)
    with pytest.raises(ValueError, match="tokenizes itself"):
        BundleEmbedding(text_bundle, max_tokens=4)


def test_modules_of_a_sentence_model_are_trained_with_its_vector_alone() -> None:
    outputs = {"states_1": SimpleNamespace(layer="1"), "sentence_embedding": SimpleNamespace(layer=None)}
    graph: Any = object.__new__(BundleGraph)
    graph.manifest = SimpleNamespace(family="bert", default_output="sentence_embedding", outputs=outputs)
    kernel = SimpleNamespace(name="sentence/0/kernel", trainable=True)
    assert graph.trains(kernel, ["sentence_embedding"])
    assert not graph.trains(kernel, ["states_1"])

"""The ELMo graph against AllenNLP's published vectors, against float64 references, and against mistakes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.builders.elmo.bilm_files import read_options, read_weights
from model_bundle.builders.graphs.elmo import Elmo
from model_bundle.builders.graphs.elmo_characters import _CHUNK_WORDS, character_ids
from model_bundle.builders.graphs.elmo_options import BilmOptions
from model_bundle.builders.graphs.elmo_signatures import split_at_spaces, stateful_signature
from tests.conftest import shared_path
from tests.support.examples import examples
from tests.support.models import elmo_reference as reference

# What bilm and AllenNLP compare these very vectors with: an absolute and a relative part. They are float32
# themselves, and off by 9.5e-7 from the same computation in float64.
ABSOLUTE, RELATIVE = 1e-6, 1e-5
STATELESS_TOLERANCE = 5e-6

Model = tuple[BilmOptions, reference.Weights]


def allennlp_model() -> Model:
    folder = shared_path("fixtures/elmo_allennlp")
    return read_options(folder / "options.json"), read_weights(folder / "lm_weights.hdf5")


def spanish_model() -> Model:
    folder = shared_path("fixtures/elmo_multilingual/es")
    return read_options(folder / "options.json"), read_weights(folder / "weights.hdf5")


def pad(texts: list[list[str]], filler: str = "") -> tuple[tf.Tensor, tf.Tensor]:
    longest = max((len(words) for words in texts), default=0)
    rows = [words + [filler] * (longest - len(words)) for words in texts]
    tokens = tf.reshape(tf.constant(rows, tf.string), [len(texts), longest])
    return tokens, tf.constant([len(words) for words in texts], tf.int32)


@cache
def compiled(elmo: Elmo, dtype: Any) -> Any:
    """``encode`` as a graph: run eagerly, its loops would be Python's."""
    specs = tf.TensorSpec([None, None], tf.string), tf.TensorSpec([None], tf.int32)
    function = tf.function(lambda tokens, lengths: elmo.encode(tokens, lengths, dtype)[0], autograph=False)
    return function.get_concrete_function(*specs)


def run(
    elmo: Elmo, texts: list[list[str]], filler: str = "", dtype: Any = tf.float32
) -> dict[str, np.ndarray]:
    outputs = compiled(elmo, dtype)(*pad(texts, filler))
    return {name: value.numpy() for name, value in outputs.items()}


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in tolerances: up to 1 is right."""
    return float((np.abs(found - expected) / (ABSOLUTE + RELATIVE * np.abs(expected))).max())


def stateful_deviation(options: BilmOptions, weights: reference.Weights) -> float:
    """Replays AllenNLP's ten batches of three with carried state; the largest difference to its
    vectors, in tolerances."""
    folder = shared_path("fixtures/elmo_allennlp")
    columns = json.loads((folder / "sentences.json").read_text("utf-8"))
    elmo = Elmo(options, weights, "the fixture")
    replay = stateful_signature(elmo)
    cells = tf.zeros([options.num_layers, 2, 3, options.lstm_dim])
    states = tf.zeros([options.num_layers, 2, 3, options.projection_dim])
    worst = 0.0
    for index in range(10):
        texts = [column[index].split() for column in columns]
        outputs = replay(*pad(texts), cells, states)
        cells, states = outputs["cells"], outputs["states"]
        for row, words in enumerate(texts):
            with h5py.File(folder / f"lm_embeddings_{row}.hdf5") as file:
                forward, backward = file[str(index)][()]
            found = outputs["lstm_outputs2"][row, : len(words)].numpy()
            worst = max(worst, deviation(found, np.concatenate([forward, backward], axis=1)))
    return worst


def test_stateful_references_of_allennlp() -> None:
    assert stateful_deviation(*allennlp_model()) <= 1


def _reorder_gates(options: BilmOptions, weights: reference.Weights) -> Model:
    changed = dict(weights)
    for name in weights:
        if name.endswith(("/W_0", "/B")):
            i, j, f, o = np.split(weights[name], 4, axis=-1)
            changed[name] = np.concatenate([i, f, j, o], axis=-1)
    return options, changed


def _shift_forget_bias(options: BilmOptions, weights: reference.Weights) -> Model:
    changed = {name: value.copy() for name, value in weights.items()}
    for name in weights:
        if name.endswith("/B"):
            changed[name][2 * options.lstm_dim : 3 * options.lstm_dim] -= 1.0
    return options, changed


def _change(options: BilmOptions, weights: reference.Weights, **changes: Any) -> Model:
    return BilmOptions(**{**vars(options), **changes}), weights


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(_reorder_gates, id="gate order"),
        pytest.param(_shift_forget_bias, id="forget bias", marks=pytest.mark.slow),
        pytest.param(
            lambda o, w: _change(o, w, use_skip_connections=False), id="skip", marks=pytest.mark.slow
        ),
        pytest.param(lambda o, w: _change(o, w, cell_clip=None), id="cell clip"),
        pytest.param(
            lambda o, w: _change(o, w, projection_clip=None), id="projection clip", marks=pytest.mark.slow
        ),
        pytest.param(lambda o, w: _change(o, w, activation="tanh"), id="activation", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_would_be_seen(mistake: Any) -> None:
    """Each mistake moves the vectors far beyond the tolerance, so the test above would fail with it."""
    assert stateful_deviation(*mistake(*allennlp_model())) > 100


def test_word_vectors_of_allennlp() -> None:
    folder = shared_path("fixtures/elmo_allennlp")
    words = (folder / "vocab_test.txt").read_text("utf-8").rstrip("\n").split("\n")
    with h5py.File(folder / "elmo_token_embeddings.hdf5") as file:
        expected = file["embedding"][()]
    found = Elmo(*allennlp_model(), "the fixture").encode_words(tf.constant(words)).numpy()
    assert len(words) == len(expected) == 458
    assert deviation(found, expected) <= 1


@pytest.mark.parametrize(
    ("model", "golden", "boundaries"),
    [
        (allennlp_model, "stateless_allennlp.npz", True),
        pytest.param(allennlp_model, "stateless_allennlp.npz", False, marks=pytest.mark.slow),
        pytest.param(spanish_model, "stateless_allennlp_es.npz", True, marks=pytest.mark.slow),
        (spanish_model, "stateless_allennlp_es.npz", False),
    ],
)
def test_stateless_goldens(model: Any, golden: str, boundaries: bool) -> None:
    folder = shared_path("fixtures/elmo_golden")
    inputs = json.loads((folder / "inputs.json").read_text("utf-8"))
    mode = "bos" if boundaries else "nobos"
    elmo = Elmo(*model(), "the fixture", boundaries=boundaries)
    compared = 0
    with np.load(folder / golden) as expected:
        for kind, key in (("fix", "fixture_sentences"), ("edge", "edge_sentences")):
            texts = [text for i, text in enumerate(inputs[key]) if f"{kind}{i:02}.word_emb" in expected]
            found = compiled(elmo, tf.float32)(*split_at_spaces(tf.constant(texts)))
            for index in range(len(texts)):
                for name in ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default"):
                    part = f"{kind}{index:02}." + (name if name == "word_emb" else f"{mode}.{name}")
                    rows = slice(None) if name == "default" else slice(int(found["sequence_len"][index]))
                    assert (
                        np.abs(found[name][index].numpy()[rows] - expected[part]).max() <= STATELESS_TOLERANCE
                    )
                    compared += 1
        assert compared == sum(mode in k.split(".") or k.endswith("word_emb") for k in expected.files)


def _options(
    activation: str = "relu",
    filters: tuple[tuple[int, int], ...] = ((1, 3), (3, 5)),
    highways: int | None = 1,
    projection: int = 6,
    cell: int = 7,
    layers: int = 2,
    skip: bool = True,
    clips: tuple[float | None, float | None] = (0.7, 0.4),
) -> dict[str, Any]:
    cnn: dict[str, Any] = {
        "activation": activation,
        "embedding": {"dim": 4},
        "filters": [list(pair) for pair in filters],
        "n_characters": 262,
        "max_characters_per_token": 12,
    }
    if highways is not None:
        cnn["n_highway"] = highways
    lstm = {"projection_dim": projection, "dim": cell, "n_layers": layers, "use_skip_connections": skip}
    return {"char_cnn": cnn, "lstm": lstm | {"cell_clip": clips[0], "proj_clip": clips[1]}, "dropout": 0.1}


CASES = {
    "plain": _options(),
    "tanh, no highway": _options(activation="tanh", highways=None),
    "no projection of words or cells": _options(projection=8, cell=8, highways=2),
    "no skip, no clip": _options(skip=False, clips=(None, None)),
    "three layers, three highways": _options(layers=3, highways=3),
    "one layer, one filter as wide as a word": _options(layers=1, filters=((12, 4),), highways=0),
}
TEXTS = [
    ["a", "text", "of", "averylongwordwithmanycharacters"],
    [],
    ["Zürich", "", "<S>"],
    ["é" * 9, "日本語"],
]


def build(options: dict[str, Any], tmp_path: Path, **choices: Any) -> tuple[Elmo, reference.Weights]:
    path = tmp_path / "options.json"
    path.write_text(json.dumps(options))
    weights = reference.random_model(options, seed=1)
    return Elmo(read_options(path), weights, "random", **choices), weights


# Boundaries are added to the words, which knows nothing of the options: without them, one case is enough.
@pytest.mark.parametrize(
    ("case", "boundaries"),
    [
        pytest.param(case, boundaries, marks=() if boundaries or case == "plain" else pytest.mark.slow)
        for case in CASES
        for boundaries in (True, False)
    ],
)
def test_every_option_is_honoured(case: str, boundaries: bool, tmp_path: Path) -> None:
    options = CASES[case]
    elmo, weights = build(options, tmp_path, boundaries=boundaries)
    found = run(elmo, TEXTS)
    for index, words in enumerate(TEXTS):
        layers = reference.encode(options, weights, words, boundaries=boundaries)
        count = options["lstm"]["projection_dim"]
        names = ["word_emb"] + [f"lstm_outputs{k + 1}" for k in range(options["lstm"]["n_layers"])]
        expected = dict(zip(names, [layers[0][:, :count], *layers[1:]], strict=True))
        expected["elmo"] = np.mean(layers, axis=0)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][index, : len(words)], value, atol=3e-6)
            assert not found[name][index, len(words) :].any()
        mean = expected["elmo"].mean(axis=0) if words else np.zeros(2 * count)
        np.testing.assert_allclose(found["default"][index], mean, atol=3e-6)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, marks=() if case in ("plain", "three layers, three highways") else pytest.mark.slow
        )
        for case in CASES
    ],
)
def test_every_option_is_honoured_in_bfloat16(case: str, tmp_path: Path) -> None:
    elmo, _ = build(CASES[case], tmp_path)
    exact, fast = run(elmo, TEXTS), run(elmo, TEXTS, dtype=tf.bfloat16)
    for name, vectors in exact.items():
        np.testing.assert_allclose(fast[name], vectors, atol=0.1)


def test_the_cases_differ_where_they_say() -> None:
    """Each option changes the reference: a graph that ignored one would fail the test above."""
    base = _options(highways=1)
    weights = reference.random_model(base, seed=1)
    vectors = reference.encode(base, weights, TEXTS[0])[2]
    for change in ("activation", "use_skip_connections", "cell_clip", "proj_clip"):
        other = json.loads(json.dumps(base))
        if change == "activation":
            other["char_cnn"]["activation"] = "tanh"
        else:
            other["lstm"][change] = None
        assert np.abs(reference.encode(other, weights, TEXTS[0])[2] - vectors).max() > 1e-3, change


def test_layer_weights_and_gamma(tmp_path: Path) -> None:
    elmo, _ = build(_options(), tmp_path, layer_weights=(0.2, -0.5, 1.5), gamma=0.8)
    found = run(elmo, TEXTS)
    words = np.concatenate([found["word_emb"]] * 2, axis=-1)
    mixed = 0.8 * (0.2 * words - 0.5 * found["lstm_outputs1"] + 1.5 * found["lstm_outputs2"])
    np.testing.assert_allclose(found["elmo"], mixed, atol=1e-6)


WORDS = st.lists(st.text(max_size=15), max_size=9)


@settings(max_examples=examples(15), deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=5), filler=st.text(max_size=4))
def test_company_and_padding_change_nothing(texts: list[list[str]], filler: str) -> None:
    elmo = PROPERTY_MODEL
    together = run(elmo, texts, filler)
    for index, words in enumerate(texts):
        alone = run(elmo, [words])
        for name in ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo"):
            np.testing.assert_allclose(together[name][index, : len(words)], alone[name][0], atol=1e-5)
            assert not together[name][index, len(words) :].any()
        np.testing.assert_allclose(together["default"][index], alone["default"][0], atol=1e-5)


def _property_model() -> Elmo:
    options = BilmOptions(4, ((1, 3), (3, 5)), "relu", 1, 12, 7, 6, 2, True, 0.7, 0.4)
    return Elmo(options, reference.random_model(_options(), seed=2), "random")


PROPERTY_MODEL = _property_model()


@settings(max_examples=examples(30), deadline=None)
@given(word=st.one_of(st.text(), st.sampled_from(["<S>", "</S>", "é" * 60, "a\0b"])))
def test_words_are_spelled_as_bilm_does(word: str) -> None:
    ids, lengths = character_ids(tf.constant([word]), 50)
    expected = reference.spell(word)
    assert ids.numpy().tolist() == [expected]
    assert lengths.numpy()[0] == sum(i != 261 for i in expected)


def test_only_the_space_splits_words() -> None:
    tokens, lengths = split_at_spaces(tf.constant(["a  b", " tab\tin\nside ", "", "no\u00a0break"]))
    assert lengths.numpy().tolist() == [2, 1, 0, 1]
    assert tokens.numpy().tolist() == [
        [b"a", b"b"],
        [b"tab\tin\nside", b""],
        [b"", b""],
        ["no\u00a0break".encode(), b""],
    ]


@pytest.mark.parametrize("boundaries", [True, False])
def test_texts_without_words_are_zero(boundaries: bool, tmp_path: Path) -> None:
    elmo, _ = build(_options(), tmp_path, boundaries=boundaries)
    for num_texts in (0, 1, 2):
        found = run(elmo, [[] for _ in range(num_texts)])
        assert found["elmo"].shape == (num_texts, 0, 12)
        assert found["default"].shape == (num_texts, 12)
        assert not found["default"].any()
        assert found["sequence_len"].tolist() == [0] * num_texts


def test_a_long_text_passes_through_several_chunks(tmp_path: Path) -> None:
    options = _options()
    elmo, weights = build(options, tmp_path)
    words = [f"{i}" + "x" * (i % 7) for i in range(2 * _CHUNK_WORDS + 100)]
    found = run(elmo, [words])
    layers = reference.encode(options, weights, words)
    for name, expected in zip(("lstm_outputs1", "lstm_outputs2"), layers[1:], strict=True):
        np.testing.assert_allclose(found[name][0], expected, atol=1e-5)


@pytest.mark.parametrize("lengths", [[3], [-1], [1, 1]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="sequence_len needs one number between 0"):
        PROPERTY_MODEL.encode(tf.constant([["a", "b"]]), tf.constant(lengths))


def test_bfloat16_stays_close() -> None:
    options, weights = allennlp_model()
    elmo = Elmo(options, weights, "the fixture")
    folder = shared_path("fixtures/elmo_golden")
    sentences = json.loads((folder / "inputs.json").read_text("utf-8"))["fixture_sentences"]
    tokens, lengths = split_at_spaces(tf.constant(sentences))
    exact, fast = (compiled(elmo, dtype)(tokens, lengths) for dtype in (tf.float32, tf.bfloat16))
    for name in ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default"):
        assert fast[name].dtype == tf.float32
        a, b = exact[name].numpy(), fast[name].numpy()
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosine = (a * b).sum(axis=-1)[norms > 0] / norms[norms > 0]
        assert cosine.min() >= 0.999, name

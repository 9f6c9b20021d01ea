"""The recipe of elmo-mini: what it trains is the ELMo of the graph, and stopping it changes nothing."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.graphs.elmo_options import BilmOptions
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from recipes.bert_mini.sentences import read_sentences
from recipes.elmo_mini.batches import make_batch, plan
from recipes.elmo_mini.lessons import NUM_HELD, Lessons, text_means
from recipes.elmo_mini.shape import OPTIONS, SHAPE, first_weights
from recipes.elmo_mini.words import Lexicon, split
from recipes.held_out import digest
from tests.conftest import shared_path
from tests.support.models.elmo_reference import encode

SMALL: dict[str, Any] = {
    "char_cnn": {
        "activation": "relu",
        "embedding": {"dim": 4},
        "filters": [[1, 4], [3, 6], [5, 8]],
        "max_characters_per_token": 50,
        "n_highway": 1,
    },
    "lstm": {
        "cell_clip": 0.3,
        "dim": 10,
        "n_layers": 2,
        "proj_clip": 0.2,
        "projection_dim": 6,
        "use_skip_connections": True,
    },
}
SMALL_SHAPE = BilmOptions(
    character_dim=4,
    filters=((1, 4), (3, 6), (5, 8)),
    activation="relu",
    num_highways=1,
    max_characters=50,
    lstm_dim=10,
    projection_dim=6,
    num_layers=2,
    use_skip_connections=True,
    cell_clip=0.3,
    projection_clip=0.2,
)
TEXTS = ["A dog runs .", "Unforgettably extraordinary", "naïve café , isn't it ?", "x"]


def test_what_is_trained_is_elmo_as_the_format_has_it() -> None:
    """Against NumPy in float64: every layer, both directions."""
    tf = import_tensorflow()
    from recipes.elmo_mini.network import Network
    from recipes.elmo_mini.spelling import spell_all

    weights = first_weights(SMALL_SHAPE, seed=3)
    network = Network(SMALL_SHAPE, weights)
    words = split(TEXTS)
    lexicon = Lexicon(words)
    numbers = [lexicon.numbers(some) for some in words]
    batch = make_batch(numbers, np.arange(len(numbers)), 12, lexicon)
    run = tf.function(network.run, autograph=False)
    layers = run(tf.constant(spell_all(network.spell, lexicon, batch.numbers)))
    for text, some in enumerate(words):
        expected = encode(SMALL, weights, some)
        assert batch.real[:, text].sum() == len(some)
        for layer, states in enumerate(layers):
            forward, backward = states.numpy()[:, 1 : len(some) + 1, text]
            found = np.concatenate([forward, backward[::-1]], axis=1)
            np.testing.assert_allclose(found, expected[layer], atol=2e-6)


def test_the_options_that_are_written_are_the_shape_that_is_trained(tmp_path: Path) -> None:
    from model_bundle.builders.elmo.bilm_files import read_options
    from recipes.elmo_mini.export import write_files

    write_files(first_weights(), [0.5, 0.25, 0.25], tmp_path)
    assert read_options(tmp_path / "options.json") == SHAPE
    assert OPTIONS["bidirectional"] is True


def test_a_stage_that_was_stopped_ends_where_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = import_tensorflow()
    from recipes.elmo_mini import stage

    monkeypatch.setattr(stage, "KEEP_EVERY", 2)

    class _Line(tf.Module):  # type: ignore[misc,name-defined]  # TensorFlow has no types
        def __init__(self) -> None:
            super().__init__()
            self.slope = tf.Variable([0.5, -1.0])

    def trained(folder: Path, stop_at: int | None = None) -> np.ndarray:
        line = _Line()

        def feed(step: int) -> tuple[Any, ...]:
            if step == stop_at:
                raise KeyboardInterrupt
            return (tf.constant(np.random.default_rng(step).normal(size=(4, 2)).astype(np.float32)),)

        def loss(inputs: Any) -> tuple[Any, ...]:
            return (tf.reduce_mean(tf.square(tf.linalg.matvec(inputs, line.slope) - 1.0)),)

        stage.Stage("line", [line.slope], 0.1, loss, line, folder).run(7, feed)
        found: np.ndarray = line.slope.numpy()
        return found

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", stop_at=5)
    np.testing.assert_array_equal(trained(tmp_path / "stopped"), whole)
    # A stage that has ended is not trained again.
    np.testing.assert_array_equal(trained(tmp_path / "whole", stop_at=0), whole)


def test_the_language_model_is_asked_for_the_next_word_and_for_the_one_before() -> None:
    import_tensorflow()
    from recipes.elmo_mini.language_model import WordPredictor
    from recipes.elmo_mini.network import Network

    words = [["a", "b", "c"], ["c", "a"]] * 4 + [["rare"]]
    lexicon = Lexicon(words)
    numbers = [lexicon.numbers(some) for some in words]
    none = np.zeros(0)
    lessons = Lessons(lexicon, numbers, [], none, none, none, [], none, none)
    predictor = WordPredictor(lessons, Network(SMALL_SHAPE, first_weights(SMALL_SHAPE)))
    batch = make_batch(numbers, np.array([0, 8]), 12, lexicon)
    where, classes = predictor.asked(batch)
    word_of = {int(kind): word for word, kind in zip(lexicon.number_of, predictor.class_of, strict=True)}
    asked: dict[tuple[int, int], list[str]] = {}
    for place, kind in zip(where.tolist(), classes.tolist(), strict=True):
        side, rest = divmod(place, 12 * 2)
        asked.setdefault((side, rest % 2), []).append(word_of[kind])
    assert asked[0, 0] == ["a", "b", "c", "</S>"]
    assert asked[1, 0] == ["c", "b", "a", "<S>"]
    # A word that is too rare is read, and not predicted.
    assert (asked[0, 1], asked[1, 1]) == (["</S>"], ["<S>"])


def test_whitening_changes_the_words_and_not_the_layers() -> None:
    from recipes.elmo_mini.whitening import stretched, whitened

    weights = first_weights(SMALL_SHAPE, seed=3)
    words = split(TEXTS)
    before = [encode(SMALL, weights, some) for some in words]
    running = np.concatenate([layers[0][:, :6] for layers in before]).astype(np.float32)
    white, scales = whitened(weights, running)
    after = [encode(SMALL, white, some) for some in words]
    vectors = np.concatenate([layers[0][:, :6] for layers in after])
    np.testing.assert_allclose(vectors.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.cov(vectors.T), np.eye(6), atol=0.15)
    assert np.mean(scales**2) == pytest.approx(1.0)
    wide = [encode(SMALL, stretched(white, scales), some) for some in words]
    np.testing.assert_allclose(
        np.concatenate([layers[0][:, :6] for layers in wide]), vectors * scales, atol=1e-5
    )
    for old, *new in zip(before, after, wide, strict=True):
        for layer in (1, 2):
            np.testing.assert_allclose([some[layer] for some in new], [old[layer]] * 2, atol=1e-4)


def test_the_mix_is_the_one_that_is_most_like_the_teacher() -> None:
    from recipes.elmo_mini.mixing import choose, even

    random = np.random.default_rng(0)
    scales = np.array([0.5, 1.0, 2.0, 4.0])
    layers = random.normal(size=(3, 80, 8))
    teacher = 0.7 * layers[0] * np.tile(even(scales, 0.5), 2) + 0.3 * layers[2]
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    power, shares, likeness = choose(layers, scales, teacher)
    assert (power, shares) == (0.5, (0.7, 0.0, 0.3))
    assert likeness == pytest.approx(1.0)


def test_the_projection_is_fitted_to_the_texts_and_nearest_texts_are_partners() -> None:
    import_tensorflow()
    from recipes.elmo_mini.network import Network
    from recipes.elmo_mini.spelling import spell_all
    from recipes.elmo_mini.word_layer import fit_projection, nearest

    random = np.random.default_rng(0)
    names = ["".join(random.choice(list("abcdefgh"), 5)) for _ in range(60)]
    texts = [[str(name) for name in random.choice(names, 3)] for _ in range(NUM_HELD + 500)]
    lexicon = Lexicon(texts)
    taught = [lexicon.numbers(some) for some in texts]
    wanted = random.normal(size=(len(lexicon), 6))
    vectors = text_means(wanted[np.concatenate(taught)], taught)
    vocabulary = np.arange(2, len(lexicon))
    lessons = Lessons(
        lexicon, [], [], vocabulary, wanted[vocabulary], np.zeros(0), taught, vectors, np.eye(6)
    )
    network = Network(SMALL_SHAPE, first_weights(SMALL_SHAPE))
    before = _likeness(spell_all(network.spell, lexicon, vocabulary), wanted[vocabulary])
    fit_projection(network, lessons)
    assert _likeness(spell_all(network.spell, lexicon, vocabulary), wanted[vocabulary]) > before + 0.2
    assert not set(lessons.learned(1, 9)) & set(lessons.held(1, 9))
    angles = np.array([0.0, 2.0, 0.1, 2.2, 4.0, 4.1])
    assert nearest(np.stack([np.cos(angles), np.sin(angles)], axis=1)).tolist() == [2, 3, 0, 1, 5, 4]


def test_distances_are_nothing_for_the_teachers_own_vectors() -> None:
    tf = import_tensorflow()
    from recipes.elmo_mini.word_layer import distances

    teacher = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    same = distances(tf.constant(3.0 * teacher), tf.constant(teacher), tf.eye(4))
    np.testing.assert_allclose([float(value) for value in same], 0.0, atol=1e-6)
    # Second texts against the first: a partner's cosine is wrong by twice itself.
    turned = np.concatenate([teacher[:3], -teacher[3:]])
    *_, partners = distances(tf.constant(turned), tf.constant(teacher), tf.eye(4))
    wrong = 2.0 * (teacher[:3] * teacher[3:]).sum(axis=1)
    assert float(partners) == pytest.approx(float(np.mean(wrong**2)), abs=1e-6)


def _likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(
        np.corrcoef((found - found.mean(axis=0)).ravel(), (wanted - wanted.mean(axis=0)).ravel())[0, 1]
    )


def test_every_text_is_in_one_batch_that_has_room_for_it() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 300)
    batches = plan(lengths, 144, np.random.default_rng(1))
    assert sorted(np.concatenate([which for _, which in batches])) == list(range(300))
    for steps, which in batches:
        assert steps * len(which) <= 144
        assert (np.minimum(lengths[which], 34) + 2 <= steps).all()


def test_no_sentence_of_the_language_model_is_measured_with() -> None:
    data = shared_path("data")
    measured = set()
    with gzip.open(data / "stsb_en_dev.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        for first, second, _ in csv.reader(stream):
            measured |= {digest(first), digest(second)}
    with gzip.open(data / "sst2_dev.tsv.gz", "rt", encoding="utf-8") as stream:
        measured |= {digest(line.rpartition("\t")[0]) for line in stream}
    with gzip.open(data / "ag_news_test.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        for _, title, text in csv.reader(stream):
            measured |= {digest(title), digest(text), digest(f"{title} {text}")}
    sentences = read_sentences(data / "wikisplit_sentences.txt.gz")
    assert len(measured) > 10_000
    assert not measured & set(map(digest, sentences))

"""The recipe of bert-mini: where it begins, what it learns from, that it goes on where it was stopped."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.quality import read_ag_news, read_sst2, read_sts
from model_bundle.builders.graphs.bert import BertEncoder
from recipes import held_out
from recipes.bert_mini import train
from recipes.bert_mini.export import quantized
from recipes.bert_mini.lessons import Lessons, Start
from recipes.bert_mini.scenes import scenes
from recipes.bert_mini.sentences import exchanged, pairs, parts, read_sentences
from recipes.bert_mini.start import CONFIG, first_weights, principal_axes, token_weights, word_table
from recipes.bert_mini.texts import training_texts
from recipes.bert_mini.train import TrainableEncoder, Trainer, mean_states, padded
from tests.conftest import shared_path

SMALL = replace(CONFIG, num_heads=2, dim=8, inner_dim=16, vocab_size=40, max_positions=8)
SENTENCES = [f"{a} {b} of the {c} , and so on ." for a in "kl" for b in "mn" for c in "xyz"]


def test_training_begins_with_the_mean_of_the_table() -> None:
    table = np.random.default_rng(0).normal(size=(SMALL.vocab_size, SMALL.dim)).astype(np.float32)
    encoder = BertEncoder(SMALL, first_weights(table, 0, SMALL), "test")
    found = mean_states(encoder, *padded([[2, 9, 11, 3], [2, 5]]))
    np.testing.assert_allclose(found, [table[[2, 9, 11, 3]].mean(0), table[[2, 5]].mean(0)], atol=1e-6)


def test_the_table_keeps_cosines_and_weighs_by_rarity() -> None:
    random = np.random.default_rng(0)
    # Vectors of 12 numbers that lie in 4 directions: four axes keep everything.
    vectors = random.normal(size=(30, 4)) @ random.normal(size=(4, 12))
    axes = principal_axes(vectors, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-5)
    np.testing.assert_allclose((vectors @ axes) @ (vectors @ axes).T, vectors @ vectors.T, rtol=1e-3)
    weights = token_weights(np.array([1.0, 10.0, 989.0]))
    assert weights[0] == pytest.approx(0.5)
    assert weights.tolist() == sorted(weights.tolist(), reverse=True)
    table = word_table(vectors, axes, np.ones(30, np.float32), silent=[0, 3])
    assert not table[[0, 3]].any()
    assert table[[1, 2]].any(axis=1).all()


def test_quantizing_errs_by_half_a_step_at_most() -> None:
    table = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    table[7] = 0.0
    small, scales = quantized(table)
    assert small.dtype == np.int8
    assert (np.abs(small * scales[:, np.newaxis] - table) <= scales[:, np.newaxis] * 0.501).all()


def test_the_graph_that_is_trained_is_the_graph_that_is_shipped() -> None:
    table = np.random.default_rng(0).normal(size=(SMALL.vocab_size, SMALL.dim)).astype(np.float32)
    weights = first_weights(table, 0, SMALL)
    random = np.random.default_rng(1)
    weights = {name: w + random.normal(0, 0.1, w.shape).astype(np.float32) for name, w in weights.items()}
    trained = TrainableEncoder(SMALL, weights, "test")
    fed = padded([[2, 9, 11, 3], [2, 5]])
    for state, wanted in zip(
        trained.encode(*fed), BertEncoder(SMALL, weights, "test").encode(*fed), strict=True
    ):
        np.testing.assert_allclose(state[0], wanted[0], atol=2e-5)
    back = trained.weights()
    assert back.keys() == weights.keys()
    assert all(np.array_equal(back[name], weights[name]) for name in weights)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches and long steps: enough to learn a small thing at once."""
    for name, value in {"BATCH_TEXTS": 64, "SLICE_TEXTS": 64, "RATE": 0.01, "TABLE_RATE": 0.05}.items():
        monkeypatch.setattr(train, name, value)


def teacher_words() -> np.ndarray:
    """What the teacher makes of single words."""
    return np.random.default_rng(5).normal(size=(SMALL.vocab_size, 12))


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    """Texts in which one half of the words counts ten times as much as the other."""
    random = np.random.default_rng(0)
    tokens = [
        [2, *random.integers(4, SMALL.vocab_size, random.integers(1, 6)).tolist(), 3] for _ in range(600)
    ]
    words = teacher_words()
    words[::2] *= 0.1
    vectors = np.stack([words[text[1:-1]].sum(0) for text in tokens])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Lessons(tokens, vectors.astype(np.float16), [[n, n + 1] for n in range(0, 600, 2)])


def trainer(lessons: Lessons, folder: Path, epochs: int = 3) -> Trainer:
    axes = principal_axes(lessons.vectors, SMALL.dim)
    ones = np.ones(SMALL.vocab_size, np.float32)
    table = word_table(teacher_words(), axes, ones, silent=[2, 3])
    return Trainer(SMALL, Start(axes, first_weights(table, 0, SMALL)), lessons, folder, 1, epochs)


def likeness(encoder: BertEncoder, lessons: Lessons) -> float:
    """The mean cosine of the student's vectors and the teacher's."""
    found = tf.math.l2_normalize(mean_states(encoder, *padded(lessons.tokens)), axis=-1).numpy()
    wanted = lessons.vectors.astype(np.float32) @ principal_axes(lessons.vectors, SMALL.dim)
    return float((found * wanted / np.linalg.norm(wanted, axis=1, keepdims=True)).sum(1).mean())


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_training_nears_the_teacher_and_goes_on_where_it_was_stopped(
    lessons: Lessons, tmp_path: Path
) -> None:
    straight = trainer(lessons, tmp_path / "straight", epochs=6)
    before = likeness(straight.encoder, lessons)
    weights = straight.run()
    assert likeness(straight.encoder, lessons) > before + 0.05

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(lessons, tmp_path / "stopped", epochs=6).run(stop)
    resumed = trainer(lessons, tmp_path / "stopped", epochs=6).run()
    for name, value in weights.items():
        np.testing.assert_allclose(resumed[name], value, atol=1e-4, err_msg=name)


def test_an_epoch_takes_groups_whole_and_each_text_once(lessons: Lessons, tmp_path: Path) -> None:
    batches = list(trainer(lessons, tmp_path)._batches(0))
    places = np.concatenate(batches)
    assert len(places) == len(set(places.tolist())) == 512
    for batch in batches:
        assert {place ^ 1 for place in batch.tolist()} == set(batch.tolist())
        lengths = [len(lessons.tokens[place]) for place in batch]
        assert lengths == sorted(lengths)


def test_texts_are_the_same_each_time_and_what_they_say_they_are() -> None:
    assert list(scenes(1, 50)) == list(scenes(1, 50)) != list(scenes(2, 50))
    assert len(list(scenes(3, 7))) == 7
    for sentence, part in zip(SENTENCES, parts(SENTENCES, 1), strict=True):
        assert part in sentence
    assert list(pairs(SENTENCES, 1, 5)) == list(pairs(SENTENCES, 1, 5))
    words = set(" ".join(SENTENCES).split())
    assert all(set(text.split()) <= words for text in exchanged(SENTENCES, 1, 6))


def test_another_text_makes_another_model(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "mine.txt.gz", "wt") as stream:
        stream.write("A sentence .\n")
    with pytest.raises(ValueError, match=r"mine\.txt\.gz has sha256 .*Name that file with --text"):
        read_sentences(tmp_path / "mine.txt.gz")


def measured_texts(data: Path) -> set[str]:
    """Digests of every text that quality is measured on, and of its parts."""
    first, second, _ = read_sts(data)
    sst2, _ = read_sst2(data, "dev")
    with gzip.open(data / "ag_news_test.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        news = [text for row in csv.reader(stream) for text in row[1:]]
    return {held_out.digest(text) for text in [*first, *second, *sst2, *news, *read_ag_news(data)[0]]}


@pytest.mark.needs_shared
def test_nothing_is_trained_on_that_is_measured_with(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measured_texts(shared_path("data"))
    source = shared_path("data/wikisplit_sentences.txt.gz")
    texts = [text for some in training_texts(source).values() for text in some]
    assert len(texts) > 60_000
    assert [text for text in texts if held_out.digest(text) in measured] == []
    # Without the list there would be some, and the list holds no others.
    monkeypatch.setattr(held_out, "HELD_OUT", frozenset())
    texts = [text for some in training_texts(source).values() for text in some]
    assert {held_out.digest(text) for text in texts} & measured != set()

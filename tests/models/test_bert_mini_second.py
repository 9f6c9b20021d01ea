"""The second stage of bert-mini: its texts, its two teachers, and batches of texts near each other."""

from __future__ import annotations

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest

from recipes import held_out
from recipes.bert_mini import second
from recipes.bert_mini.lessons import Lessons
from recipes.bert_mini.paraphraser import check_paraphraser
from recipes.bert_mini.reviews import reviews
from recipes.bert_mini.scenes import scenes
from recipes.bert_mini.second import (
    NUM_REVIEWS,
    NUM_SCENES,
    SEED,
    SecondTrainer,
    aligned_start,
    encoded,
    joined,
    neighbours,
)
from recipes.bert_mini.start import first_weights
from recipes.bert_mini.train import TrainableEncoder
from recipes.bert_mini.wordnet import WORDNET_SHA256, explained, read_wordnet
from recipes.held_out import without_held_out
from tests.conftest import shared_path
from tests.models.test_bert_mini import SMALL, lessons, measured_texts, quick

__all__ = ["lessons", "quick"]  # fixtures


def units(count: int, dim: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_groups_hold_each_text_once_and_near_ones_together() -> None:
    centres = np.repeat(units(20, 16), 16, axis=0)
    vectors = centres + units(320, 16, seed=1) * 0.3
    groups = neighbours(vectors, (1, 0), size=24)
    assert sorted(place for group in groups for place in group) == list(range(320))
    assert max(map(len, groups)) <= 24
    together = np.mean([(vectors[group] @ vectors[group].T).mean() for group in groups])
    assert together > 2 * (vectors @ vectors.T).mean() + 0.2
    assert neighbours(vectors, (1, 0)) == neighbours(vectors, (1, 0)) != neighbours(vectors, (1, 1))


def test_equal_texts_are_grouped_too() -> None:
    assert sorted(map(len, neighbours(np.ones((50, 4)), (1,), size=20))) == [12, 12, 13, 13]


def test_a_cosine_of_joined_vectors_is_the_mean_of_both() -> None:
    one, other = units(9, 12), units(9, 10, seed=1)
    both = joined(one, other, (0.25, 0.75)).astype(np.float32)
    np.testing.assert_allclose(both @ both.T, 0.25 * one @ one.T + 0.75 * other @ other.T, atol=2e-3)


def test_axes_turn_towards_what_the_model_gives() -> None:
    random = np.random.default_rng(0)
    weights = first_weights(random.normal(size=(SMALL.vocab_size, SMALL.dim)), 0, SMALL)
    tokens = [random.integers(4, SMALL.vocab_size, random.integers(1, 7)).tolist() for _ in range(300)]
    found = encoded(TrainableEncoder(SMALL, weights, "test"), tokens)
    # The teacher's vectors are the model's own, turned and wider: the axes turn them back.
    wide = found @ np.linalg.qr(random.normal(size=(16, 16)))[0][: SMALL.dim].astype(np.float32)
    start = aligned_start(weights, Lessons(tokens, wide, []), SMALL)
    np.testing.assert_allclose(wide @ start.axes, found, atol=1e-4)


def test_a_second_epoch_has_other_groups(tmp_path: Path) -> None:
    tokens = [[2, 5 + place % 30, 3] for place in range(512)]
    lessons = Lessons(tokens, units(512, 12).astype(np.float16), [])
    weights = first_weights(np.ones((SMALL.vocab_size, SMALL.dim)), 0, SMALL)
    trainer = SecondTrainer(SMALL, aligned_start(weights, lessons, SMALL), lessons, tmp_path, 1, 2)
    for epoch in (0, 1):
        places = np.concatenate(list(trainer._batches(epoch)))
        assert sorted(places.tolist()) == list(range(512))
    assert trainer._groups_in(0) != trainer._groups_in(1)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_training_nears_the_teachers(
    lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second, "EPOCHS", 6)
    monkeypatch.setattr(second, "RATES", (0.01, 0.05))
    weights = first_weights(np.random.default_rng(0).normal(size=(SMALL.vocab_size, SMALL.dim)), 0, SMALL)
    trained = second.train_further(weights, lessons, SMALL, tmp_path)
    errors = []
    for some in (weights, trained):
        found = encoded(TrainableEncoder(SMALL, some, "test"), lessons.tokens)
        wanted = lessons.vectors.astype(np.float32)
        errors.append(np.abs(found @ found.T - wanted @ wanted.T).mean())
    assert errors[1] < 0.8 * errors[0]


def test_another_file_makes_another_model(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("no model")
    with pytest.raises(ValueError, match=r"wrong has sha256 .*--wordnet"):
        list(read_wordnet(wrong))
    with pytest.raises(ValueError, match=r"wrong has sha256 .*--paraphraser"):
        check_paraphraser(wrong)


def test_meanings_come_with_their_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "adj": '00 00 a 01 able 0 000 | having the power; "able to swim far"; "able"  \n',
        "noun": "  1 The licence of the file.\n00 03 n 01 thing 0 000 | no example  \n",
    }
    with tarfile.open(tmp_path / "wordnet.tgz", "w:gz") as archive:
        for name in ("adj", "adv", "noun", "verb"):
            path = tmp_path / name
            path.write_text(lines.get(name, ""))
            archive.add(path, f"package/dict/data.{name}")
    monkeypatch.setattr("recipes.bert_mini.wordnet.sha256_of", lambda _: WORDNET_SHA256)
    assert list(read_wordnet(tmp_path / "wordnet.tgz")) == [["able to swim far", "having the power"]]
    assert explained('`x\' of y; "is it so"') == ["is it so", "'x' of y"]


def test_reviews_are_the_same_each_time_and_come_in_families() -> None:
    texts = list(reviews(1, 400))
    assert texts == list(reviews(1, 400)) != list(reviews(2, 400))
    assert not any("  " in text or "|" in text for text in texts)
    alike = [len(set(a.split()) ^ set(b.split())) for a, b in itertools.pairwise(texts)]
    assert np.mean(np.array(alike) <= 12) > 0.4


@pytest.mark.needs_shared
def test_no_generated_text_is_measured_with() -> None:
    measured = measured_texts(shared_path("data"))
    texts = [*reviews(SEED, NUM_REVIEWS), *scenes(SEED, NUM_SCENES)]
    assert [text for text in without_held_out(texts) if held_out.digest(text) in measured] == []
    assert any(held_out.digest(text) in measured for text in texts)

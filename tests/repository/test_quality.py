"""Measures of quality: against what they are by definition, and on sets whose answer is known."""

from __future__ import annotations

import csv
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measures import logistic_accuracy, neighbour_accuracy, ranks, spearman
from benchmarks.quality import main, read_ag_news, read_sst2, read_sts


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_a_rank_counts_what_is_smaller_and_half_of_what_is_equal(values: list[int]) -> None:
    expected = [sum(v < own for v in values) + (sum(v == own for v in values) - 1) / 2 for own in values]
    assert ranks(np.array(values)).tolist() == expected


def test_spearman_knows_order_only() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9])
    assert spearman(values, np.exp(values)) == pytest.approx(1.0)
    assert spearman(values, -(values**3)) == pytest.approx(-1.0)
    # Of n values without ties it is 1 - 6 sum(d^2) / (n (n^2 - 1)); here d is 1, 1, 0, 0.
    assert spearman(np.array([1, 2, 3, 4]), np.array([2, 1, 3, 4])) == pytest.approx(1 - 6 * 2 / (4 * 15))


def slow_neighbours(vectors: np.ndarray, classes: np.ndarray, neighbours: int) -> float:
    right = 0
    for place, vector in enumerate(vectors):
        cosines = [
            (float(vector @ other / np.linalg.norm(vector) / np.linalg.norm(other)), int(classes[number]))
            for number, other in enumerate(vectors)
            if number != place
        ]
        best = sorted(cosines, reverse=True)[:neighbours]
        votes = {kind: [c for c, k in best if k == kind] for _, kind in best}
        right += max(votes, key=lambda kind: (len(votes[kind]), sum(votes[kind]))) == classes[place]
    return right / len(vectors)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_vote_as_one_would_count_by_hand(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, classes = random.normal(size=(40, 3)), random.integers(0, 3, 40)
    assert neighbour_accuracy(vectors, classes) == pytest.approx(slow_neighbours(vectors, classes, 5))


def test_a_text_is_not_its_own_neighbour() -> None:
    vectors = np.eye(6) + 0.01
    # Each is nearest to itself; without itself, the five others outvote it.
    assert neighbour_accuracy(vectors, np.array([0, 1, 1, 1, 1, 1])) == pytest.approx(5 / 6)


def test_a_head_finds_the_direction_that_decides_and_no_other() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(800, 8))
    classes = (vectors[:, 3] > 0).astype(int)
    assert logistic_accuracy(vectors[:600], classes[:600], vectors[600:], classes[600:]) >= 0.95
    coins = random.integers(0, 2, 800)
    assert 0.3 < logistic_accuracy(vectors[:600], coins[:600], vectors[600:], coins[600:]) < 0.7


def test_a_head_is_where_the_loss_is_least() -> None:
    from benchmarks.measures import _fit_logistic

    random = np.random.default_rng(1)
    inputs = np.concatenate([random.normal(size=(50, 2)), np.ones((50, 1))], axis=1)
    classes = random.integers(0, 2, 50).astype(float)
    weights = _fit_logistic(inputs, classes)

    def loss(at: np.ndarray) -> float:
        logits = inputs @ at
        return float(np.sum(np.logaddexp(0, logits) - classes * logits) + 0.5 * np.sum(at[:-1] ** 2))

    for step in itertools.product((-0.05, 0.0, 0.05), repeat=3):
        assert loss(weights + np.array(step)) >= loss(weights) - 1e-9


def write_sets(folder: Path) -> None:
    """Small sets in the format of the real ones."""
    with gzip.open(folder / "stsb_en_dev.csv.gz", "wt", newline="") as stream:
        csv.writer(stream).writerows(
            [['a "cat", here', "a cat", 4.5], ["a cat", "a dog", 1.0], ["one", "two", 3.0]]
        )
    for part, lines in (("train", ["good\t1", "bad\t0", "so good\t1", "so bad\t0"]), ("dev", ["good\t1"])):
        with gzip.open(folder / f"sst2_{part}.tsv.gz", "wt") as stream:
            stream.write("\n".join(lines) + "\n")
    with gzip.open(folder / "ag_news_test.csv.gz", "wt", newline="") as stream:
        csv.writer(stream).writerows(
            [[1 + number % 4, f"title {number}", f"text\n{number}"] for number in range(12)]
        )


def test_sets_are_read_whole(tmp_path: Path) -> None:
    write_sets(tmp_path)
    first, second, scores = read_sts(tmp_path)
    assert (first[0], second[0], scores.tolist()) == ('a "cat", here', "a cat", [4.5, 1.0, 3.0])
    texts, classes = read_sst2(tmp_path, "train")
    assert (texts, classes.tolist()) == (["good", "bad", "so good", "so bad"], [1, 0, 1, 0])
    texts, classes = read_ag_news(tmp_path)
    assert len(texts) == 12
    assert set(classes.tolist()) == {0, 1, 2, 3}


def test_the_command_measures_any_bundle(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sets(tmp_path)
    assert main(["--bundles", str(tiny_bundle), "--data", str(tmp_path), "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| bundle | sts | sst2 | ag_news | documents/s | times ")
    assert len(lines) == 3
    assert lines[2].endswith("| 1.0 |")


def test_a_set_that_is_not_there_is_named(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bundles", str(tiny_bundle), "--data", str(tmp_path), "--sets", "sst2"]) == 2
    assert "sst2_train.tsv.gz does not exist. Give the folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--sets", "sts,nonsense"])
    assert "--sets nonsense: there are sts, sst2" in capsys.readouterr().err

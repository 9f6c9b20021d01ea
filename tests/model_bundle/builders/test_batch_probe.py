"""What is found out about how a model takes batches, on models of one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from model_bundle.builders.batch_probe import BatchBehaviour, largest_difference, probe_batches
from model_bundle.bundle.specs import OutputSpec, TokenizerSpec
from model_bundle.errors import SourceError
from model_bundle.text.prepared import PlainTextInput
from model_bundle.text.words import WordInput

TOKENS = {"states": OutputSpec(kind="token", dim=1, layer="states")}
TEXTS = {"vector": OutputSpec(kind="text", dim=1)}
Inputs = Mapping[str, np.ndarray]


def probe(run: Callable[[Inputs], dict[str, np.ndarray]], outputs: dict[str, OutputSpec]) -> BatchBehaviour:
    return probe_batches(run, WordInput(TokenizerSpec(kind="words", word_split="spaces"), None), outputs)


def states_of(inputs: Inputs) -> np.ndarray:
    """float32[texts, words, 1]: the length of each word; 0 where there is none."""
    spelled = [[[len(word)] for word in row] for row in inputs["words"]]
    return np.array(spelled, np.float32)


def sums_of(inputs: Inputs) -> np.ndarray:
    total: np.ndarray = states_of(inputs).sum(axis=1)
    return total


def test_a_model_that_minds_its_own_text_is_independent() -> None:
    assert probe(lambda inputs: {"vector": sums_of(inputs)}, TEXTS) == BatchBehaviour(False, 1, 0.0)


def test_padding_may_hold_anything() -> None:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        states = states_of(inputs)
        longest = np.full_like(states, states.shape[1])
        return {"states": np.where(states == 0, longest, states)}

    assert probe(run, TOKENS) == BatchBehaviour(False, 1, 0.0)


@pytest.mark.parametrize(("error", "dependent"), [(2e-5, True), (2e-6, False)])
def test_what_a_longer_neighbour_changes_counts_above_a_limit(error: float, dependent: bool) -> None:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        is_padded = inputs["words"].shape[1] > inputs["lengths"].min()
        return {"vector": sums_of(inputs) * np.float32(1 + error * is_padded)}

    found = probe(run, TEXTS)
    assert found.batch_dependent is dependent
    assert found.difference == pytest.approx(error, rel=0.1)


def test_nan_beside_a_longer_text_is_a_change() -> None:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        padded = inputs["lengths"] < inputs["lengths"].max()
        return {"vector": np.where(padded[:, np.newaxis], np.nan, sums_of(inputs))}

    assert probe(run, TEXTS) == BatchBehaviour(True, 1, float("inf"))


def test_a_batch_of_one_that_fails_is_avoided() -> None:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        if len(inputs["words"]) == 1:
            raise ValueError("two axes expected")
        return {"vector": sums_of(inputs)}

    assert probe(run, TEXTS) == BatchBehaviour(False, 2, 0.0)


def test_a_batch_of_one_that_loses_its_axis_is_avoided() -> None:
    assert probe(lambda inputs: {"vector": np.squeeze(sums_of(inputs))}, TEXTS).min_batch == 2


def test_a_model_that_fails_on_several_lengths_is_given_one() -> None:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        if len(set(inputs["lengths"])) > 1:
            raise ValueError("one length expected")
        return {"vector": sums_of(inputs)}

    assert probe(run, TEXTS) == BatchBehaviour(True, 1, float("inf"))


def test_a_random_model_is_refused() -> None:
    random = np.random.default_rng(1)
    with pytest.raises(SourceError, match="or is random"):
        probe(lambda inputs: {"vector": sums_of(inputs) * random.normal()}, TEXTS)


def test_a_graph_that_splits_texts_itself_is_dependent_where_one_of_its_words_is() -> None:
    """Two texts of as many words may differ in what the graph makes of them: not a reason to refuse."""

    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        sizes = np.array([[len(text)] for text in inputs["text"]], np.float32)
        return {"vector": sizes / sizes.max()}

    assert probe_batches(run, PlainTextInput(), TEXTS).batch_dependent


def test_a_model_that_always_fails_is_refused() -> None:
    def run(_: Inputs) -> dict[str, np.ndarray]:
        raise ValueError("no such bucket")

    with pytest.raises(SourceError, match="fails on a plain text: no such bucket"):
        probe(run, TEXTS)


def test_a_model_that_mixes_texts_of_one_length_is_refused() -> None:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        vectors = sums_of(inputs)
        return {"vector": vectors - vectors.mean(axis=0)}

    with pytest.raises(SourceError, match="mixes the texts of a batch, or is random"):
        probe(run, TEXTS)


def test_differences_are_relative_above_one_and_absolute_below() -> None:
    def difference(one: float, other: float) -> float:
        return largest_difference({"x": np.array([one])}, {"x": np.array([other])})

    assert difference(1000.0, 1001.0) == pytest.approx(1e-3)
    assert difference(0.001, 0.002) == pytest.approx(1e-3)
    assert largest_difference({"x": np.zeros(2)}, {"x": np.zeros(3)}) == float("inf")

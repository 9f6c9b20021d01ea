"""Texts through the model in batches: each once, in order, whoever its neighbours are, however it fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import ModelMemoryError, ModelRunError, NonFiniteError
from model_bundle.inference.batching import balance_budget, bisect_batch, plan_batches
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.request import EncodeRequest
from tests.support.examples import examples
from tests.support.models.tiny import DIM, FAILING_WORD, NAN_WORD

LENGTHS = st.lists(st.integers(0, 700), max_size=200).map(lambda numbers: np.array(numbers, np.int32))
_WORDS = ("cat", "dog", "home", "a", "the mat", FAILING_WORD, NAN_WORD, "xyzzy", "北京", "😀", "[CLS]")
TEXTS = st.lists(
    st.lists(st.sampled_from(_WORDS), max_size=12).map(" ".join) | st.text(max_size=30),
    min_size=1,
    max_size=12,
)


@given(lengths=LENGTHS, budget=st.integers(1, 5000))
def test_batches_hold_each_text_once_and_keep_the_budget(lengths: np.ndarray, budget: int) -> None:
    batches = list(plan_batches(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= budget
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(lengths=LENGTHS.filter(len), budget=st.integers(1, 5000))
def test_padding_is_less_than_what_one_sorted_pass_could_waste(lengths: np.ndarray, budget: int) -> None:
    """In descending order a batch pads to its first text at most, and the next begins below its last."""
    batches = list(plan_batches(lengths, budget))
    waste = sum(int(lengths[b].max()) * len(b) - int(lengths[b].sum()) for b in batches)
    steps = sum((int(lengths[b].max()) - int(lengths[b].min())) * (len(b) - 1) for b in batches)
    assert waste <= steps
    assert sum(int(lengths[b].max()) - int(lengths[b].min()) for b in batches) <= lengths.max()


def test_shapes_come_again() -> None:
    """Kernels are kept for each; every buffer has another even budget, and there are thousands of them."""
    random, shapes, num_batches = np.random.default_rng(2), set(), 0
    for _ in range(100):
        lengths = np.minimum(random.gamma(9, 6, 1000).astype(np.int32) + 2, 256)
        for batch in plan_batches(lengths, balance_budget(lengths, 2048, 2)):
            shapes.add((len(batch), int(lengths[batch].max())))
            num_batches += 1
    assert num_batches > 2900
    assert len(shapes) < 260


@given(lengths=LENGTHS, budget=st.integers(1, 5000))
def test_models_that_cannot_pad_get_texts_of_one_length(lengths: np.ndarray, budget: int) -> None:
    batches = list(plan_batches(lengths, budget, equal_lengths=True))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(set(lengths[batch])) == 1 for batch in batches)


def idle_share(costs: list[int], parallelism: int) -> float:
    """The share of time that threads wait at the end, if each takes the next batch as soon as it is free."""
    ends = [0] * parallelism
    for cost in costs:
        ends[ends.index(min(ends))] += cost
    return 1 - sum(ends) / (parallelism * max(ends))


@given(
    seed=st.integers(0, 1000),
    num_texts=st.integers(500, 4096),
    budget=st.integers(2048, 20_000),
    parallelism=st.integers(1, 4),
)
def test_threads_get_equal_work(seed: int, num_texts: int, budget: int, parallelism: int) -> None:
    """Texts like news: a thread waits for less than a tenth of the time, whatever the numbers are."""
    lengths = np.random.default_rng(seed).gamma(9, 5, num_texts).astype(np.int32) + 1
    even = balance_budget(lengths, budget, parallelism)
    batches = plan_batches(lengths, even)
    assert even <= budget
    assert idle_share([int(lengths[b].max()) * len(b) for b in batches], parallelism) < 0.1


def test_three_batches_become_four_for_two_threads_and_few_texts_stay_together() -> None:
    lengths = np.full(1000, 30)
    even = balance_budget(lengths, 12_000, 2)
    assert [len(batch) for batch in plan_batches(lengths, even)] == [256, 256, 256, 232]
    assert balance_budget(np.full(20, 30), 12_000, 2) == 1024
    assert balance_budget(np.full(10_000, 1000), 4096, 2) == 4096
    assert balance_budget(np.full(2, 5000), 4096, 2) == 4096
    assert balance_budget(np.array([], np.int32), 4096, 2) == 1024


@given(size=st.integers(2, 100))
def test_halves_lose_nothing_and_come_to_an_end(size: int) -> None:
    first, second = bisect_batch(np.arange(size))
    assert [*first, *second] == list(range(size))
    assert 0 < len(first) <= len(second) < size


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder(str(tiny_bundle))


@pytest.fixture(scope="module")
def each(encoder: Encoder) -> TextEncoder:
    return TextEncoder(encoder.bundle, encoder.runtime, max_batch_tokens=60)


@settings(max_examples=examples(60), deadline=None)
@given(texts=TEXTS)
def test_a_text_has_one_vector_whatever_its_company_and_its_place(
    each: TextEncoder, encoder: Encoder, texts: list[str]
) -> None:
    together, backwards = each.encode_each(texts), each.encode_each(texts[::-1])
    dead = {failure.text_index: failure.reason for failure in together.failures}
    assert dead == {len(texts) - 1 - f.text_index: f.reason for f in backwards.failures}
    vectors = together.vectors["states_2"]
    np.testing.assert_allclose(vectors[::-1], backwards.vectors["states_2"], atol=1e-5)
    for index, text in enumerate(texts):
        if index not in dead:
            np.testing.assert_allclose(vectors[index], encoder.encode([text])[0], atol=1e-5)
        else:
            expected = {FAILING_WORD: "model_error", NAN_WORD: "non_finite"}
            assert any(word in text.lower() and dead[index] == why for word, why in expected.items())


class SmallMemory:
    """A model that has memory for so many cells at a time."""

    unfrozen_reason = None
    ready_seconds = 0.0
    parallelism = 1

    def __init__(self, request: EncodeRequest, cells: int) -> None:
        self.request, self.cells = request, cells
        self.refused: list[int] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids = inputs["ids"]
        if ids.size > self.cells:
            self.refused.append(ids.size)
            raise ModelMemoryError("too much")
        vectors = np.tile((ids * inputs["mask"]).sum(axis=1, keepdims=True), DIM)
        return {name: vectors.astype(np.float32) for name in self.request.outputs}


def _small(encoder: Encoder, cells: int, budget: int) -> tuple[TextEncoder, SmallMemory]:
    runtime = SmallMemory(encoder.request, cells)
    return TextEncoder(ModelBundle.open(encoder.bundle.path), runtime, budget), runtime


def test_memory_that_runs_out_halves_the_budget_just_as_often_as_needed(encoder: Encoder) -> None:
    texts = ["cat " * 8] * 400  # 10 tokens each
    small, runtime = _small(encoder, cells=110, budget=1000)
    encoded = small.encode_each(texts)
    assert encoded.failures == []
    assert len(set(encoded.vectors["states_2"][:, 0])) == 1
    assert small.max_batch_tokens == 60  # neither 960 nor 480, 240 and 120 cells fit
    # The first batch on its way down: whole, its halves, theirs. Nothing after it is refused.
    quarter = [240, 120, 120]
    assert runtime.refused == [960, 480, *quarter, *quarter, 480, *quarter, *quarter]
    small.encode_each(texts)
    assert len(runtime.refused) == 15


def test_a_text_too_large_on_its_own_is_a_dead_letter_and_no_reason_for_smaller_batches(
    encoder: Encoder,
) -> None:
    small, _ = _small(encoder, cells=50, budget=45)
    encoded = small.encode_each(["cat", "dog " * 62, "the mat"])
    assert [(f.text_index, f.reason) for f in encoded.failures] == [(1, "out_of_memory")]
    assert small.max_batch_tokens == 45


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), cells=st.integers(62, 4000))
@settings(deadline=None, max_examples=examples(50))
def test_whatever_fits_alone_gets_its_vector(encoder: Encoder, lengths: list[int], cells: int) -> None:
    small, _ = _small(encoder, cells, budget=4000)
    encoded = small.encode_each(["cat " * length for length in lengths])
    assert encoded.failures == []
    order = np.argsort(lengths, kind="stable")
    assert (np.diff(encoded.vectors["states_2"][order, 0]) >= 0).all()


@pytest.mark.parametrize(
    ("word", "error"), [(FAILING_WORD, ModelRunError), (NAN_WORD, NonFiniteError)], ids=["fails", "nan"]
)
def test_the_encoder_names_the_text_that_failed(encoder: Encoder, word: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="1 texts failed; the first is number 2"):
        encoder.encode(["a cat", "a dog", word, "home"])


def test_no_texts_give_no_vectors_of_the_right_width(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, DIM)


class Narrow(SmallMemory):
    """A model of another width than its bundle says."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.zeros((len(inputs["ids"]), 3), np.float32) for name in self.request.outputs}


def test_a_model_of_another_width_than_promised_is_no_result(encoder: Encoder) -> None:
    broken = TextEncoder(encoder.bundle, Narrow(encoder.request, 0), 100)
    encoded = broken.encode_each(["a cat", "a dog"])
    assert [failure.reason for failure in encoded.failures] == ["model_error"] * 2
    assert "[1, 3]" in encoded.failures[0].message

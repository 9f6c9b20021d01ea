"""Vectors of libraries that carried ELMo's state: in their order they come again, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.stateful_elmo import StatefulTextEncoder
from tests.conftest import shared_path

NUM_ROWS, NUM_BATCHES = 3, 10
LAYER = ("lstm_outputs2",)


@pytest.fixture(scope="module")
def loaded(allennlp_elmo: Path) -> Encoder:
    """The model, from which each replay begins anew: see ``replay``."""
    return Encoder(allennlp_elmo, rows="word", layers=LAYER, stateful=True)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """AllenNLP's own test: three columns of ten sentences, a batch from each position."""
    columns = json.loads((shared_path("fixtures/elmo_allennlp") / "sentences.json").read_text("utf-8"))
    return [column[index] for index in range(NUM_BATCHES) for column in columns]


def allennlp(first: int, last: int) -> np.ndarray:
    """The vectors that AllenNLP published for the words of some of these texts."""
    folder, found = shared_path("fixtures/elmo_allennlp"), []
    for position in range(first, last):
        index, row = divmod(position, NUM_ROWS)
        with h5py.File(folder / f"lm_embeddings_{row}.hdf5") as file:
            found.append(np.concatenate(file[str(index)][()], axis=1))
    return np.concatenate(found)


def replay(loaded: Encoder, batch_texts: int = NUM_ROWS) -> Callable[[list[str]], np.ndarray]:
    """Begins a replay, with states of zero, on the model that was loaded once."""
    texts = StatefulTextEncoder(loaded.bundle, loaded.runtime, batch_texts)

    def encode(fed: list[str]) -> np.ndarray:
        return np.asarray(texts.encode_each(fed).vectors["lstm_outputs2"])

    return encode


def assert_equals(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_all_batches_of_allennlp(allennlp_elmo: Path, texts: list[str]) -> None:
    """Buffers do not cut batches: 7 texts are not a multiple of 3."""
    options = {"stateful": True, "batch_texts": NUM_ROWS, "buffer_texts": 7}
    encoder = Encoder(allennlp_elmo, rows="word", layers=LAYER, **options)
    assert_equals(encoder.encode(texts), allennlp(0, 30))


@pytest.mark.slow
def test_a_second_call_goes_on(loaded: Encoder, texts: list[str]) -> None:
    encode = replay(loaded)
    assert_equals(encode(texts[:12]), allennlp(0, 12))
    assert_equals(encode(texts[12:]), allennlp(12, 30))


@pytest.mark.slow
def test_another_size_of_batches_or_none_gives_other_vectors(
    allennlp_elmo: Path, loaded: Encoder, texts: list[str]
) -> None:
    """So the tests above would notice a state that is not carried, or goes to the wrong row."""
    without = Encoder(allennlp_elmo, rows="word", layers=LAYER).encode(texts)
    assert np.abs(without - allennlp(0, 30)).max() > 1e-3
    assert np.abs(replay(loaded, batch_texts=5)(texts) - allennlp(0, 30)).max() > 1e-3


@pytest.mark.slow
def test_rows_that_a_smaller_batch_does_not_have_keep_their_state(loaded: Encoder, texts: list[str]) -> None:
    encode, other = replay(loaded), replay(loaded)
    encode(texts[:3])
    encode(texts[3:4])
    other(texts[:3])
    first = encode(texts[6:9])
    second = other(texts[6:9])
    num_words = len(texts[6].split())
    # Words that were seen before are not spelled again, so products have other shapes, and with them other
    # last digits; a state that had moved would show as it does in the first text.
    assert np.abs(first[:num_words] - second[:num_words]).max() > 1e-3
    np.testing.assert_allclose(first[num_words:], second[num_words:], rtol=0, atol=2e-6)


def test_a_vector_a_text_is_the_mean_of_its_words(
    allennlp_elmo: Path, loaded: Encoder, texts: list[str]
) -> None:
    words = replay(loaded)(texts)
    means = Encoder(allennlp_elmo, layers=LAYER, stateful=True, batch_texts=NUM_ROWS).encode(texts)
    bounds = np.cumsum([0, *(len(text.split()) for text in texts)])
    expected = [words[start:stop].mean(axis=0) for start, stop in pairwise(bounds)]
    np.testing.assert_allclose(means, expected, atol=1e-6)


def test_what_cannot_be_replayed(allennlp_elmo: Path, loaded: Encoder, tiny_bundle: Path) -> None:
    with pytest.raises(SettingsError, match=r"tokens_stateful.*build elmo"):
        Encoder(tiny_bundle, stateful=True)
    with pytest.raises(SettingsError, match="bfloat16"):
        Encoder(allennlp_elmo, stateful=True, precision="bfloat16")
    with pytest.raises(SettingsError, match="batch_texts must be at least 1"):
        replay(loaded, batch_texts=0)

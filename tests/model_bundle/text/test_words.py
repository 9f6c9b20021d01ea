"""Texts to words, with the place of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_bundle.bundle.specs import TokenizerSpec
from model_bundle.text.words import WordInput

SPACES = TokenizerSpec(kind="words", word_split="spaces")
UNICODE = TokenizerSpec(kind="words", word_split="unicode")
TEXT = "Don't  panic,\tZürich…\u00a0東京 😀!"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SPACES, ["Don't", "panic,\tZürich…\u00a0東京", "😀!"]),
        (UNICODE, ["Don", "'", "t", "panic", ",", "Zürich", "…", "東京", "😀", "!"]),
    ],
)
def test_worked_example(spec: TokenizerSpec, expected: list[str]) -> None:
    words, places = WordInput(spec, None).prepare([TEXT]).words(0)
    assert words == expected
    assert [TEXT[start:stop] for start, stop in places] == expected
    assert places.dtype == np.int32


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    texts=st.lists(TEXTS, max_size=4),
    spec=st.sampled_from([SPACES, UNICODE]),
    prompt=st.sampled_from(["", "q: "]),
)
def test_places_point_at_the_words(texts: list[str], spec: TokenizerSpec, prompt: str) -> None:
    prepared = WordInput(spec, None, prompt).prepare(texts)
    for index, text in enumerate(texts):
        words, places = prepared.words(index)
        of_text = [(w, text[a:b]) for w, (a, b) in zip(words, places, strict=True) if b > 0]
        # A word that the prompt's end and the text's beginning share has its tail in the text.
        assert all(word == there or word.endswith(there) for word, there in of_text)
        if not prompt:
            assert [there for _, there in of_text] == words
            left = "".join(words)
            assert left == (text.replace(" ", "") if spec is SPACES else _without_white_space(text))


def _without_white_space(text: str) -> str:
    """White space by Unicode's property; Python counts four separators (U+001C to U+001F) as well."""
    return "".join(c for c in text if not c.isspace() or "\x1c" <= c <= "\x1f")


@given(texts=st.lists(TEXTS, min_size=1, max_size=5), limit=st.integers(1, 4))
def test_batches_are_padded_and_truncated(texts: list[str], limit: int) -> None:
    prepared = WordInput(SPACES, limit).prepare(texts)
    full = [[word for word in text.split(" ") if word] for text in texts]
    assert prepared.num_tokens.tolist() == [len(words) for words in full]
    assert prepared.lengths.tolist() == [min(len(words), limit) for words in full]
    order = np.arange(len(texts))[::-1]
    batch = prepared.batch(order)
    assert batch["lengths"].tolist() == prepared.lengths[order].tolist()
    assert batch["words"].shape == (len(texts), max(prepared.lengths.max(), 1))
    for row, index in enumerate(order):
        kept = [word.encode() for word in full[index][:limit]]
        assert batch["words"][row].tolist() == kept + [b""] * (batch["words"].shape[1] - len(kept))


def test_half_a_character_is_left_out() -> None:
    batch = WordInput(SPACES, None).prepare(["a\ud800b c"]).batch(np.array([0]))
    assert batch["words"].tolist() == [[b"ab", b"c"]]


def test_no_texts() -> None:
    prepared = WordInput(SPACES, None).prepare([])
    assert prepared.lengths.shape == prepared.num_tokens.shape == (0,)

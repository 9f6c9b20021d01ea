"""Long texts to windows: every token and character is in one, the overlap is as asked, none is too long."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.bundle.specs import TokenizerSpec
from model_bundle.errors import SettingsError
from model_bundle.text.subword_alignment import SubwordWordInput
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.window_inputs import SubwordWindowInput, WordWindowInput
from model_bundle.text.window_words import assign_words
from model_bundle.text.windows import cut
from model_bundle.text.words import WordInput
from tests.conftest import DATA_DIR
from tests.support.examples import examples

MODELS = ("tiny_bert", "tiny_roberta")
PROMPT = "query: "
CUTS = st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(0, 39)).filter(lambda c: c[2] < c[1])
TEXTS = st.lists(st.text(st.sampled_from("ab é日\u0301\u200b .,\n🙂"), max_size=60), min_size=1, max_size=4)


def subword_input(model: str, max_tokens: int | None, prompt: str = "") -> SubwordInput:
    return SubwordInput(DATA_DIR / model / "tokenizer.json", max_tokens, 0, prompt)


def windows_of(model: str, texts: list[str], max_tokens: int, overlap: int, prompt: str = "") -> Any:
    whole = subword_input(model, None, prompt)
    return SubwordWindowInput(whole, max_tokens, overlap, prompt).prepare(texts)


@given(case=CUTS)
def test_windows_hold_every_token_and_share_what_was_asked(case: tuple[int, int, int]) -> None:
    num_tokens, room, overlap = case
    windows = cut(num_tokens, room, overlap)
    sizes = windows[:, 1] - windows[:, 0]
    assert windows[0, 0] == 0
    assert windows[-1, 1] == num_tokens
    assert (windows[:-1, 1] - windows[1:, 0] == overlap).all()
    assert (sizes[:-1] == room).all()
    assert sizes[-1] <= room
    assert len(windows) == 1 or sizes[-1] > overlap  # the last one has something new


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("prompt", ["", PROMPT])
@settings(max_examples=examples(60), deadline=None)
@given(texts=TEXTS, limit=st.integers(14, 22), overlap=st.integers(0, 5))
def test_windows_are_slices_of_the_text_behind_its_prompt(
    model: str, prompt: str, texts: list[str], limit: int, overlap: int
) -> None:
    found = windows_of(model, texts, limit, overlap, prompt)
    whole = subword_input(model, None, prompt).prepare(texts)
    batch = found.batch(np.arange(len(found.texts)))
    assert (found.lengths <= limit).all()
    np.testing.assert_array_equal(found.lengths, batch["mask"].sum(axis=1))
    np.testing.assert_array_equal(found.num_tokens, whole.num_tokens)
    for text in range(len(texts)):
        ids = whole.ids[whole.starts[text] : whole.starts[text + 1]].tolist()
        own = np.flatnonzero(found.texts == text)
        rows = [batch["ids"][w, : found.lengths[w]].tolist() for w in own]
        fixed = int(found._num_fixed[text])
        assert all(row[:fixed] == ids[:fixed] and row[-1] == ids[-1] for row in rows)
        bodies = [row[fixed:-1] for row in rows]
        assert bodies[0] + [token for body in bodies[1:] for token in body[overlap:]] == ids[fixed:-1]
        for before, after in pairwise(bodies):
            assert before[len(before) - overlap :] == after[:overlap]
        assert found.index[own].tolist() == list(range(len(own)))


def test_windows_of_equal_digests_have_equal_words() -> None:
    """Any character but a space may be in a word of ELMo's, zero bytes included."""
    spec = TokenizerSpec(kind="words", word_split="spaces")
    texts = ["a b", "a\0b", "ab", "a b ", "b a", "a  b"]
    digests = WordWindowInput(WordInput(spec, None), 9, 0, "").prepare(texts).digests
    same = {digest: [t for t, own in zip(texts, digests, strict=True) if own == digest] for digest in digests}
    assert sorted(same.values()) == sorted([["a b", "a b ", "a  b"], ["a\0b"], ["ab"], ["b a"]])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("before", [PROMPT, "query:"])
def test_a_prompt_stands_before_every_window(model: str, before: str) -> None:
    """As the tokenizer itself spells it: its tokens, then those of the text."""
    prompt = subword_input(model, None).prepare(["query:"]).ids[:-1].tolist()
    found = windows_of(model, ["the cat sat on the mat and the dog ran home " * 3], 20, 2, before)
    ids = found.batch(np.arange(len(found.texts)))["ids"]
    assert len(ids) > 3
    assert ids[:, : len(prompt)].tolist() == [prompt] * len(ids)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=examples(60), deadline=None)
@given(texts=TEXTS, limit=st.integers(14, 18), overlap=st.integers(0, 3), prompted=st.booleans())
def test_spans_cover_every_character(
    model: str, texts: list[str], limit: int, overlap: int, prompted: bool
) -> None:
    found = windows_of(model, texts, limit, overlap, PROMPT if prompted else "")
    for index, text in enumerate(texts):
        spans = found.spans[found.texts == index]
        assert spans[0, 0] == 0
        assert spans[-1, 1] == len(text)
        assert (spans[1:, 0] <= spans[:-1, 1]).all()
        assert (spans[:, 0] <= spans[:, 1]).all()
        assert len(spans) == 1 or (np.diff(spans[:, 0]) >= 0).all()


def test_spans_of_a_sentence() -> None:
    """Space behind a window's last token goes with it."""
    text = "the cat  sat on the mat"
    found = windows_of("tiny_bert", [text], 5, 1)
    assert [text[start:stop] for start, stop in found.spans] == ["the cat  sat ", "sat on the ", "the mat"]


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=examples(30), deadline=None)
@given(texts=TEXTS, prompted=st.booleans())
def test_the_first_window_is_what_truncation_leaves(model: str, texts: list[str], prompted: bool) -> None:
    prompt = PROMPT if prompted else ""
    found = windows_of(model, texts, 12, 2, prompt)
    cut_off = subword_input(model, 12, prompt).prepare(texts)
    first = found.starts[:-1]
    mine, theirs = found.batch(first), cut_off.batch(np.arange(len(texts)))
    for role in ("ids", "mask"):
        np.testing.assert_array_equal(mine[role], theirs[role])


@given(case=CUTS)
def test_a_token_counts_once_however_many_windows_it_is_in(case: tuple[int, int, int]) -> None:
    num_tokens, room, overlap = case
    spec = TokenizerSpec(kind="words", word_split="spaces")
    found = WordWindowInput(WordInput(spec, None), room, overlap, "").prepare(["a " * num_tokens])
    weight = np.zeros(num_tokens)
    for start, stop in cut(num_tokens, room, overlap):
        weight[start:stop] += 1
    by_hand = [(1 / weight[start:stop]).sum() for start, stop in cut(num_tokens, room, overlap)]
    np.testing.assert_allclose(found.shares(), by_hand, atol=1e-9)
    assert found.shares().sum() == pytest.approx(num_tokens)


@settings(deadline=None)
@given(
    case=CUTS,
    sizes=st.lists(st.integers(1, 9), max_size=40),
    num_fixed=st.integers(0, 3),
)
def test_each_word_is_taken_whole_from_where_it_stands_most_central(
    case: tuple[int, int, int], sizes: list[int], num_fixed: int
) -> None:
    _, room, overlap = case
    stops = np.cumsum([0, *sizes])
    pieces = np.stack([stops[:-1], stops[1:]], axis=1) + num_fixed
    windows = cut(int(stops[-1]), room, overlap)
    parts, bounds = assign_words(pieces, windows, num_fixed)
    taken: dict[int, list[tuple[int, int]]] = {}
    for window, (first, stop) in enumerate(windows):
        for part in range(bounds[window], bounds[window + 1]):
            word, (begin, end) = int(parts.words[part]), parts.pieces[part]
            assert num_fixed <= begin < end <= num_fixed + stop - first
            taken.setdefault(word, []).extend((t + first, window) for t in range(begin, end))
            assert parts.num_pieces[part] == sizes[word]
            assert parts.is_first[part] == (begin + first == pieces[word, 0])
    assert sorted(taken) == list(range(len(sizes)))  # no word is dropped
    for word, tokens in taken.items():
        first, stop = pieces[word] - num_fixed
        assert [token - num_fixed for token, _ in sorted(tokens)] == list(range(first, stop))
        holding = [w for w, (a, _) in enumerate(windows) if a <= first and stop <= a + room]
        used = {window for _, window in tokens}
        if holding:
            (window,) = used
            off_centre = [abs(2 * windows[w, 0] + room - first - stop) for w in holding]
            assert off_centre[holding.index(window)] == min(off_centre)


def test_words_of_windows_keep_their_places() -> None:
    words = SubwordWordInput(DATA_DIR / "tiny_bert" / "tokenizer.json", None, 0)
    found = SubwordWindowInput(words, 6, 1, "").prepare(["the unbelievably long cat sat"])
    assert found.whole.words(0)[0] == ["the", "unbelievably", "long", "cat", "sat"]
    parts = [found.parts(window, found.whole.pieces) for window in range(len(found.texts))]
    assert sorted(int(word) for part in parts for word in part.words) == [0, 1, 2, 3, 4]


def test_an_overlap_without_progress_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"--window_overlap 6: .* room for 6.* Use 0 to 5\."):
        windows_of("tiny_bert", ["a"], 8, 6)
    with pytest.raises(SettingsError, match="--window_overlap -1"):
        windows_of("tiny_bert", ["a"], 8, -1)
    with pytest.raises(SettingsError, match=r"6 of the prompt.* Use a larger --max_tokens"):
        windows_of("tiny_bert", ["a"], 8, 0, PROMPT)


def test_a_prompt_that_runs_into_the_text_leaves_windows_that_go_on() -> None:
    """Joined to one word, prompt and text have other tokens than apart."""
    texts = ["cat " * 30, "dog", ""]
    found = windows_of("tiny_bert", texts, 12, 3, "quer")
    whole = subword_input("tiny_bert", None, "quer").prepare(texts)
    assert (found.lengths <= 12).all()
    assert found.spans[found.starts[1:] - 1, 1].tolist() == [len(text) for text in texts]
    np.testing.assert_array_equal(found.num_tokens, whole.num_tokens)

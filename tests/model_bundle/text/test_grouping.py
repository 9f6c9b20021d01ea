"""Windows that end after sentences: they cover the text, fit the model, and stay where nothing was edited."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.bundle.specs import TokenizerSpec
from model_bundle.text.boundaries import WindowsAt
from model_bundle.text.grouping import Grouping, TokenPlaces
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.window_inputs import SubwordWindowInput, WordWindowInput
from model_bundle.text.words import WordInput
from tests.conftest import DATA_DIR
from tests.support.examples import examples

# Sentences of several lengths, and what has rules of its own.
PARTS = [
    *("A b. ", "Cd, ef gh ij kl mn. ", "Op. ", "日。", "é\u200b", "\n\n", "# H\n", "```\n", "| a | b |\n"),
    *("- x\n", '"', "w" * 9),
]
ODD = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)
KINDS = st.sampled_from([WindowsAt.SENTENCE, WindowsAt.PARAGRAPH])


def cut(text: str, room: int, windows_at: WindowsAt = WindowsAt.SENTENCE, overlap: int = 0) -> np.ndarray:
    stops = np.array([match.end() for match in re.finditer(r"\w+|[^\w\s]", text)], dtype=np.int64)
    return Grouping(windows_at, overlap, "en").cut(text, TokenPlaces(stops), room)


def prose(seed: int, num_paragraphs: int) -> list[str]:
    """Paragraphs of one to eight sentences of 4 to 30 words."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(2000)]

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.randint(4, 30))).capitalize() + "."

    return [" ".join(sentence() for _ in range(rng.randint(1, 8))) for _ in range(num_paragraphs)]


def texts_of(text: str, windows: np.ndarray) -> list[str]:
    tokens = re.findall(r"\w+|[^\w\s]", text)
    return [" ".join(tokens[first:stop]) for first, stop in windows]


@settings(max_examples=examples(150), deadline=None)
@given(text=ODD, room=st.integers(1, 60), kind=KINDS, overlap=st.integers(0, 3))
def test_windows_cover_every_token_and_fit(text: str, room: int, kind: WindowsAt, overlap: int) -> None:
    windows = cut(text, room, kind, overlap)
    assert windows[0, 0] == 0
    assert windows[-1, 1] == len(re.findall(r"\w+|[^\w\s]", text))
    assert (windows[:, 1] - windows[:, 0] <= room).all()
    assert (windows[1:, 0] <= windows[:-1, 1]).all()  # nothing is left out
    assert (np.diff(windows[:, 1]) > 0).all()  # each has something new
    assert (windows[:-1, 1] - windows[1:, 0] <= room // 2).all()
    if not overlap:
        assert (windows[1:, 0] == windows[:-1, 1]).all()


@pytest.mark.parametrize("kind", [WindowsAt.SENTENCE, WindowsAt.PARAGRAPH])
@pytest.mark.parametrize("overlap", [0, 2])
def test_windows_end_with_sentences(kind: WindowsAt, overlap: int) -> None:
    paragraphs = prose(0, 200)
    text = "\n\n".join(paragraphs)
    sizes = [len(re.findall(r"\w+|[^\w\s]", paragraph)) for paragraph in paragraphs]
    room = max(sizes)
    windows = cut(text, room, kind, overlap)
    found = texts_of(text, windows)
    assert all(window.endswith(" .") for window in found)
    assert all(window[0].isupper() for window in found)
    filled = windows[:, 1] - windows[:, 0]
    if kind is WindowsAt.SENTENCE:
        assert filled.min() > room // 3
        assert filled.mean() > 0.7 * room
    else:
        assert set(windows[:, 1].tolist()) <= set(np.cumsum(sizes).tolist())  # each fits into a window
    shared = windows[:-1, 1] - windows[1:, 0]
    assert (shared > 0).mean() == 0 if not overlap else (shared > 0).mean() > 0.9


def test_overlap_is_counted_in_sentences() -> None:
    text = " ".join(f"Number {n} is {n * n % 89}." for n in range(100))
    for before, after in pairwise(texts_of(text, cut(text, 40, overlap=2))):
        last = re.findall(r"[^.]+\.", before)[-2:]
        assert "".join(last).strip() == "".join(re.findall(r"[^.]+\.", after)[:2])


def test_code_and_tables_are_whole_where_they_fit() -> None:
    paragraphs = prose(1, 60)
    code = "```\n" + "\n\n".join(f"x{n} = {n}" for n in range(20)) + "\n```"
    table = "| a | b |\n|---|---|\n" + "\n".join(f"| {n} | {n}. |" for n in range(20))
    paragraphs[20:20] = [code, table]
    text = "\n\n".join(paragraphs)
    for overlap in (0, 3):
        found = texts_of(text, cut(text, 160, overlap=overlap))
        for block in (code, table):
            assert any(" ".join(re.findall(r"\w+|[^\w\s]", block)) in window for window in found)
    rows = texts_of(text, cut(text, 50))
    in_table = [window for window in rows if re.search(r"\| 1\d \|", window)]
    assert all(window.endswith("|") for window in in_table)  # else at the ends of its lines


@settings(max_examples=examples(40), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    where=st.floats(0, 1),
    edit=st.sampled_from(["insert", "delete", "replace", "letter", "quote"]),
    overlap=st.integers(0, 2),
    kind=KINDS,
)
def test_an_edit_changes_only_windows_near_it(
    seed: int, where: float, edit: str, overlap: int, kind: WindowsAt
) -> None:
    """Windows before and after the sections around it are the same, wherever it is."""
    room = 250
    before = prose(seed, 150)
    after = edited(before, int(where * 149), edit, prose(seed + 1, 1)[0])
    old, new = ("\n\n".join(paragraphs) for paragraphs in (before, after))
    known = set(texts_of(old, cut(old, room, kind, overlap)))
    fresh = [
        n for n, window in enumerate(texts_of(new, cut(new, room, kind, overlap))) if window not in known
    ]
    assert len(fresh) <= 16  # of 1,200 drawn, the most were 7
    assert not fresh or fresh[-1] - fresh[0] <= 20


def edited(paragraphs: list[str], at: int, edit: str, text: str) -> list[str]:
    changes: dict[str, Callable[[str], list[str]]] = {
        "insert": lambda old: [text, old],
        "delete": lambda _: [],
        "replace": lambda _: [text],
        "letter": lambda old: [old.replace("a", "zz", 1)],
        "quote": lambda old: [old.replace(" ", ' "', 1)],
    }
    return [*paragraphs[:at], *changes[edit](paragraphs[at]), *paragraphs[at + 1 :]]


def test_ten_edits_change_few_of_many_windows() -> None:
    """At the beginning, in the middle and at the end, with an overlap of a sentence."""
    paragraphs = prose(5, 1600)
    text = "\n\n".join(paragraphs)
    known = cut(text, 250, overlap=1)
    assert len(known) > 600
    places = [0, 1, 200, 400, 600, 800, 1000, 1200, 1598, 1599]
    kinds = [
        "insert",
        "letter",
        "delete",
        "replace",
        "insert",
        "quote",
        "delete",
        "replace",
        "letter",
        "insert",
    ]
    for at, kind, new in sorted(zip(places, kinds, prose(6, 10), strict=True), reverse=True):
        paragraphs = edited(paragraphs, at, kind, new)
    changed = "\n\n".join(paragraphs)
    fresh = set(texts_of(changed, cut(changed, 250, overlap=1))) - set(texts_of(text, known))
    assert 10 <= len(fresh) <= 40


@settings(max_examples=examples(40), deadline=None)
@given(
    texts=st.lists(ODD, min_size=1, max_size=3),
    model=st.sampled_from(["tiny_bert", "tiny_roberta"]),
    prompt=st.sampled_from(["", "query: "]),
    limit=st.integers(14, 30),
    kind=KINDS,
    overlap=st.integers(0, 2),
)
def test_windows_of_subwords_cover_the_text(
    texts: list[str], model: str, prompt: str, limit: int, kind: WindowsAt, overlap: int
) -> None:
    whole = SubwordInput(DATA_DIR / model / "tokenizer.json", None, 0, prompt)
    found = SubwordWindowInput(whole, limit, 0, prompt, Grouping(kind, overlap, "en")).prepare(texts)
    assert (found.lengths <= limit).all()
    batch = found.batch(np.arange(len(found.texts)))
    np.testing.assert_array_equal(found.lengths, batch["mask"].sum(axis=1))
    np.testing.assert_allclose(
        np.bincount(found.texts, found.shares()),
        found.num_tokens - [found._num_fixed[t] + whole.num_tail for t in range(len(texts))],
    )
    for index, text in enumerate(texts):
        spans = found.spans[found.texts == index]
        assert (spans[0, 0], spans[-1, 1]) == (0, len(text))
        assert (spans[1:, 0] <= spans[:-1, 1]).all()
        assert (spans[:, 0] <= spans[:, 1]).all()


def test_windows_of_words() -> None:
    """As of a model that takes words; these are split at spaces alone, so that line ends belong to words."""
    text = "One two three. Four five six. \n\n Seven eight. Nine ten eleven. Twelve."
    spec = TokenizerSpec(kind="words", word_split="spaces")
    grouping = Grouping(WindowsAt.SENTENCE, 0, "en")
    found = WordWindowInput(WordInput(spec, None), 5, 0, "", grouping).prepare([text])
    spans = [text[start:stop] for start, stop in found.spans]
    assert "".join(spans) == text
    assert (found.lengths <= 5).all()
    assert all(span.rstrip().endswith(".") for span in spans)

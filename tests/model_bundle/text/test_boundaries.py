"""Ends of sentences and paragraphs: in several languages, around code and tables, by what is near alone."""

from __future__ import annotations

import re
import time
from importlib.metadata import PackageNotFoundError
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.errors import SettingsError
from model_bundle.text.boundaries import (
    LINE,
    PARAGRAPH,
    SENTENCE,
    boundary_keys,
    boundary_rules,
    find_boundaries,
    lone_minima,
)
from tests.support.examples import examples

MARKDOWN = """# Title
One sentence, e.g. this. Another
on two lines.

Before the code:
```python
x = 1

y = "no. sentence. here."
```
After it.

| a | b |
|---|---|
| 1 | 2. Two |

- an item
- one more. With a second sentence.

~~~ never closed
"""
PIECES = [
    (LINE, "# Title\n"),
    (SENTENCE, "One sentence, e.g. this. "),
    (PARAGRAPH, "Another\non two lines.\n\n"),
    (PARAGRAPH, "Before the code:\n"),
    (PARAGRAPH, '```python\nx = 1\n\ny = "no. sentence. here."\n```\n'),
    (PARAGRAPH, "After it.\n\n"),
    (PARAGRAPH, "| a | b |\n|---|---|\n| 1 | 2. Two |\n\n"),
    (SENTENCE, "- an item\n"),
    (SENTENCE, "- one more. "),
    (PARAGRAPH, "With a second sentence.\n\n"),
    (PARAGRAPH, "~~~ never closed\n"),
]


def pieces(text: str, language: str = "en") -> list[tuple[int, str]]:
    found = find_boundaries(text, language)
    starts = [0, *found.offsets.tolist()]
    return [
        (level, text[start:stop])
        for level, (start, stop) in zip(found.levels.tolist(), pairwise(starts), strict=True)
    ]


def test_markdown() -> None:
    assert pieces(MARKDOWN) == PIECES


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Dr. Smith came at 5 p.m. on Monday. ", 'He asked: "Really?" ', "It rose 3.5 percent."]),
        ("de", ["Das ist z. B. ein Satz von Dr. Müller vom 3. Oktober. ", "Stimmt das? ", "Ja, ca. 2."]),
        ("fr", ["Il a dit : « Bonjour. » ", "Puis il est parti."]),
        ("zh", ["今天天气很好。", "我们去公园吧！", "你觉得怎么样？"]),  # noqa: RUF001
        ("ja", ["今日は天気がいいです。", "どう思いますか？", "「はい。行きます。」"]),  # noqa: RUF001
        ("hi", ["आज मौसम अच्छा है। ", "क्या आप आएंगे?"]),
        ("ar", ["الطقس جميل اليوم. ", "هل تريد الذهاب؟ ", "نعم."]),
        ("el", ["Τι κάνεις; ", "Είμαι καλά."]),  # noqa: RUF001
    ],
)
def test_sentences_of_languages(language: str, sentences: list[str]) -> None:
    assert [piece for _, piece in pieces("".join(sentences), language)] == sentences


@settings(max_examples=examples(100), deadline=None)
@given(text=st.text(st.sampled_from("aB1 .?!\"'|-#`~*\n\r\u2028。»ü\ud800"), max_size=200))
def test_boundaries_are_in_order_and_end_with_the_text(text: str) -> None:
    found = find_boundaries(text, "en")
    assert (np.diff(found.offsets, prepend=0) > 0).all()
    assert found.offsets[-1:].tolist() == ([len(text)] if text else [])
    assert found.levels[-1:].tolist() == ([PARAGRAPH] if text else [])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), max_size=40), st.integers(1, 12))
def test_lone_minima_are_those_of_the_definition(steps: list[tuple[int, int]], radius: int) -> None:
    places = np.cumsum([step for step, _ in steps]).tolist()
    ranks = [rank for _, rank in steps]
    expected = [
        all(ranks[a] < ranks[b] for b in range(len(steps)) if a != b and abs(places[a] - places[b]) <= radius)
        for a in range(len(steps))
    ]
    assert lone_minima(places, ranks, radius).tolist() == expected


def test_keys_are_the_same_everywhere_and_know_only_their_surroundings() -> None:
    text = "a" * 40 + "b" * 40
    assert boundary_keys(text, [40]).tolist() == [5631331391402076140]
    assert boundary_keys("c" * 40 + text + "d", [80]).tolist() == boundary_keys(text, [40]).tolist()


def test_without_the_library_the_flag_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("model_bundle.text.boundaries.version", missing)
    with pytest.raises(SettingsError, match=r"--windows_at .* need the package sentencex: pip install"):
        boundary_rules()


def test_a_quotation_mark_turns_nothing_around_far_from_it() -> None:
    text = " ".join(
        f'He said "number {n} is it. Or {n * 7919 % 1000} is not." Then he left.' for n in range(2000)
    )
    at = len(text) // 10
    before = {at - len(text) for at in find_boundaries(text, "en").offsets.tolist()}
    edited = text[:at] + '"' + text[at:]
    after = {at - len(edited) for at in find_boundaries(edited, "en").offsets.tolist()}
    behind = [n + len(text) - at for n in before ^ after if n + len(text) > at]
    assert max(behind) < 10_000


def test_text_that_repeats_itself_is_cut_for_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time grows with the square of the sentences: 16 MB took days."""
    seen: list[int] = []

    def segment(_: str, text: str) -> list[str]:
        seen.append(len(text))
        return re.findall("[^。]*。|[^。]+", text)

    monkeypatch.setattr("sentencex.segment", segment)
    found = find_boundaries("北京。" * 20_000, "zh")
    assert found.offsets.tolist() == list(range(3, 60_001, 3))
    assert max(seen) < 16_100


@pytest.mark.parametrize(
    "text", ["```\n" * 9999, "~~~x\n" * 9999, "|\n" * 9999, "a|b\n" * 9999, "." * 99_999, '"a. ' * 9999]
)
def test_odd_texts_take_no_longer_than_others(text: str) -> None:
    started = time.process_time()
    find_boundaries(text, "en")
    assert time.process_time() - started < 5

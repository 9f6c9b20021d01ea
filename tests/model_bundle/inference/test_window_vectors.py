"""Vectors of long texts: those of their windows, and what is made of them, computed again by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import TOKENIZER_FILE
from model_bundle.bundle.specs import Precision, Rows, WordPieces
from model_bundle.errors import ModelRunError, SettingsError, TextTooLongError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.long_texts import Combine, LongTexts, OnLong
from model_bundle.runtime.request import EncodeRequest
from model_bundle.text.subwords import SubwordInput
from tests.support.examples import examples
from tests.support.models.tiny import FAILING_WORD, NAN_WORD

WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "home", "quick", "brown", "and")
LIMIT, ROOM, OVERLAP = 12, 10, 3  # [CLS] and [SEP] take two tokens


def words(count: int, seed: int = 0) -> list[str]:
    """Words of one token each."""
    return [str(word) for word in np.random.default_rng(seed).choice(WORDS, count)]


def slices(count: int) -> list[tuple[int, int]]:
    """Windows as they are drawn on paper."""
    found = [(0, min(ROOM, count))]
    while found[-1][1] < count:
        start = found[-1][1] - OVERLAP
        found.append((start, min(start + ROOM, count)))
    return found


def windows(combine: Combine | None = None) -> LongTexts:
    return LongTexts(OnLong.WINDOWS, OVERLAP, combine)


@pytest.fixture(scope="module")
def plain(tiny_bundle: Path) -> Encoder:
    return Encoder(tiny_bundle, max_batch_tokens=100)


@pytest.fixture(scope="module")
def make(tiny_bundle: Path) -> Callable[..., Encoder]:
    known: dict[str, Encoder] = {}

    def encoder(**options: Any) -> Encoder:
        options = {"max_tokens": LIMIT, "max_batch_tokens": 100} | options
        if repr(options) not in known:
            known[repr(options)] = Encoder(tiny_bundle, **options)
        return known[repr(options)]

    return encoder


@pytest.mark.parametrize("count", [1, 9, 10, 11, 17, 18, 40])
@pytest.mark.parametrize("combine", [Combine.MEAN, Combine.MAX])
def test_combined_vectors_are_those_computed_by_hand(
    plain: Encoder, make: Callable[..., Encoder], combine: Combine, count: int
) -> None:
    """Ten words fit; a word that stands in two windows counts half in each."""
    text = words(count, seed=count)
    parts = slices(count)
    vectors = plain.encode([" ".join(text[a:b]) for a, b in parts]).astype(np.float64)
    times = np.zeros(count)
    for a, b in parts:
        times[a:b] += 1
    weights = np.array([(1 / times[a:b]).sum() for a, b in parts])
    expected = vectors.max(axis=0) if combine is Combine.MAX else weights @ vectors / weights.sum()
    expected /= np.linalg.norm(expected)
    found = make(long_texts=windows(combine)).encode([" ".join(text)])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_without_scaling_nothing_is_scaled(make: Callable[..., Encoder]) -> None:
    text = words(25)
    raw = make(long_texts=windows(), normalize=False)
    single = make(normalize=False)
    vectors = single.encode([" ".join(text[a:b]) for a, b in slices(25)])
    # 25 words: 0-10, 7-17, 14-24, 21-25. Those in two windows count half: 7-10, 14-17, 21-24.
    expected = np.array([8.5, 7.0, 7.0, 2.5]) @ vectors / 25
    np.testing.assert_allclose(raw.encode([" ".join(text)])[0], expected, atol=1e-5)
    assert abs(np.linalg.norm(expected) - 1) > 0.01


def test_each_window_has_a_row_with_its_place(plain: Encoder, make: Callable[..., Encoder]) -> None:
    texts = [" ".join(words(count, seed=count)) for count in (25, 3, 10, 11, 60)]
    (encoded,) = make(rows="window", long_texts=windows()).encode_buffers(texts)
    assert encoded.windows is not None
    expected = [slices(count) for count in (25, 3, 10, 11, 60)]
    assert encoded.row_texts.tolist() == [i for i, parts in enumerate(expected) for _ in parts]
    assert encoded.windows.index.tolist() == [k for parts in expected for k in range(len(parts))]
    for row, text in enumerate(encoded.row_texts):
        span = texts[text][encoded.windows.start[row] : encoded.windows.end[row]]
        a, b = expected[text][encoded.windows.index[row]]
        assert span.split() == texts[text].split()[a:b]
        assert encoded.windows.num_tokens[row] == b - a + 2
        np.testing.assert_allclose(encoded.vectors["states_2"][row], plain.encode([span])[0], atol=1e-5)
    assert not encoded.was_truncated.any()
    assert encoded.num_tokens.tolist() == [count + 2 for count in (25, 3, 10, 11, 60)]


@settings(max_examples=examples(20), deadline=None)
@given(counts=st.lists(st.integers(0, ROOM), min_size=1, max_size=8))
def test_short_texts_have_exactly_the_vector_that_they_have_anyway(
    make: Callable[..., Encoder], counts: list[int]
) -> None:
    texts = [" ".join(words(count, seed=count)) for count in counts]
    as_ever = make().encode(texts)
    for options in ({"long_texts": windows()}, {"long_texts": windows(), "rows": "window"}):
        np.testing.assert_array_equal(make(**options).encode(texts), as_ever)


def test_every_window_carries_the_prompt(plain: Encoder, make: Callable[..., Encoder]) -> None:
    text = words(25)
    found = make(rows="window", prompt="query", long_texts=LongTexts(OnLong.WINDOWS)).encode([" ".join(text)])
    parts = [text[start : start + ROOM - 2] for start in range(0, 25, ROOM - 2)]
    expected = plain.encode(["time of " + " ".join(part) for part in parts])  # the bundle's prompt
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_bfloat16_windows_are_close_to_those_in_float32(make: Callable[..., Encoder]) -> None:
    texts = [" ".join(words(40))]
    exact, rough = (
        make(long_texts=windows(), precision=p).encode(texts) for p in (Precision.FLOAT32, Precision.BFLOAT16)
    )
    assert rough[0] @ exact[0] > 0.999


def test_a_hundred_thousand_words_are_covered_to_the_last_character(make: Callable[..., Encoder]) -> None:
    text = " ".join(words(100_000)) + " \n"
    encoder = make(rows="window", max_tokens=64, long_texts=windows(), max_batch_tokens=4096)
    (encoded,) = encoder.encode_buffers([text, "a cat"])
    assert encoded.windows is not None
    own = encoded.row_texts == 0
    start, end = encoded.windows.start[own], encoded.windows.end[own]
    assert (start[0], end[-1]) == (0, len(text))
    assert (start[1:] <= end[:-1]).all()
    assert own.sum() == 1 + -(-(100_000 - 62) // 59)
    assert encoded.windows.num_tokens.max() == 64
    sample = slice(0, int(own.sum()), 171)
    texts = [text[a:b] for a, b in zip(start[sample], end[sample], strict=True)]
    expected = make(max_tokens=64).encode(texts)
    np.testing.assert_allclose(encoded.vectors["states_2"][own][sample], expected, atol=1e-5)


def test_every_word_of_a_long_text_has_its_vector(tiny_bundle: Path, make: Callable[..., Encoder]) -> None:
    """From the window in whose middle it is nearest; of two as near, the later one."""
    text = words(40)
    found = make(rows="word", long_texts=windows()).encode([" ".join(text)])
    single = Encoder(tiny_bundle, rows="word")
    parts = slices(40)
    vectors = [single.encode([" ".join(text[a:b])]) for a, b in parts]
    assert len(found) == 40
    for word in range(40):
        holding = [k for k, (a, b) in enumerate(parts) if a <= word < b]
        nearest = min(holding, key=lambda k: (abs(2 * parts[k][0] + ROOM - 2 * word - 1), -k))
        expected = vectors[nearest][word - parts[nearest][0]]
        np.testing.assert_allclose(found[word], expected, atol=1e-5)


def test_a_word_that_no_window_holds_is_the_mean_of_its_pieces_where_they_stand(
    tiny_bundle: Path, make: Callable[..., Encoder]
) -> None:
    """``xyzxyzxyzxyz`` has twelve pieces, a window room for ten."""
    found = make(rows="word", long_texts=LongTexts(OnLong.WINDOWS)).encode(["a xyzxyzxyzxyz"])
    ids = SubwordInput(tiny_bundle / TOKENIZER_FILE, None, 0).prepare(["a xyzxyzxyzxyz"]).ids
    rows = np.array([[*ids[:11], ids[-1]], [ids[0], *ids[11:], *[0] * 7]])
    runtime = make(rows="word").runtime
    states = runtime.run({"ids": rows, "mask": (rows != 0).astype(np.int32)})["states_2"]
    expected = np.concatenate([states[0, 2:11], states[1, 1:4]]).mean(axis=0)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    only = make(rows="word", long_texts=LongTexts(OnLong.WINDOWS), word_pieces="first")
    np.testing.assert_allclose(only.encode(["a xyzxyzxyzxyz"])[1], states[0, 2], atol=1e-5)


def test_a_window_that_fails_costs_its_text_and_no_other(make: Callable[..., Encoder]) -> None:
    for long_texts, rows in ((windows(), "document"), (windows(), "window"), (windows(), "word")):
        encoder = make(long_texts=long_texts, rows=rows)
        each = TextEncoder(encoder.bundle, encoder.runtime, 60)
        bad = words(30)
        bad[12], bad[25] = NAN_WORD, NAN_WORD
        texts = [" ".join(words(30, 1)), " ".join(bad), f"a {FAILING_WORD}", " ".join(words(30, 2))]
        encoded = each.encode_each(texts)
        assert [(f.text_index, f.reason) for f in encoded.failures] == [(1, "non_finite"), (2, "model_error")]
        assert encoded.failures[0].message.startswith("Window 1: ")
        assert not encoded.failures[1].message.startswith("Window")
        alone = encoder.encode([texts[0]])
        (vectors,) = encoded.vectors.values()
        np.testing.assert_allclose(vectors[encoded.row_texts == 0], alone, atol=1e-5)


def test_dead_letters_and_failing_say_how_long_a_text_is(make: Callable[..., Encoder]) -> None:
    texts = ["a cat", " ".join(words(10)), " ".join(words(11)), " ".join(words(30))]
    encoder = make(long_texts=LongTexts(OnLong.DEAD_LETTER))
    each = TextEncoder(encoder.bundle, encoder.runtime, 60)
    encoded = each.encode_each(texts)
    assert [(f.text_index, f.reason) for f in encoded.failures] == [(2, "too_long"), (3, "too_long")]
    assert encoded.failures[1].message == "The text has 32 tokens, the limit is 12."
    np.testing.assert_array_equal(encoded.vectors["states_2"][:2], make().encode(texts[:2]))
    assert encoded.num_padded_tokens == 2 * 12  # the short ones, as one batch
    with pytest.raises(ModelRunError, match="2 texts failed; the first is number 2: The text has 13 tokens"):
        encoder.encode(texts)
    with pytest.raises(TextTooLongError, match="Text 2 has 13 tokens, the limit is 12"):
        make(long_texts=LongTexts(OnLong.FAIL)).encode(texts)
    assert make(long_texts=LongTexts(OnLong.FAIL)).encode(texts[:2]).shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long_texts": LongTexts(OnLong.WINDOWS, 10)}, r"--window_overlap 10: .* room for 10"),
        ({"long_texts": LongTexts(None, 2)}, "--window_overlap is for --on_long windows, not truncate"),
        ({"long_texts": LongTexts(OnLong.FAIL, None, Combine.MAX)}, "--combine is for --on_long windows"),
        ({"long_texts": windows(Combine.MEAN), "rows": "window"}, "--combine mean .* leave it out"),
        ({"long_texts": windows(Combine.BEST)}, "--combine best is for scores of pairs"),
        ({"long_texts": LongTexts(OnLong.TRUNCATE), "rows": "window"}, "--rows window splits"),
        ({"word_pieces": "first"}, "--word_pieces first is for --rows word"),
        ({"long_texts": windows(), "prompt_text": "the cat " * 8}, "Use a larger --max_tokens"),
    ],
)
def test_what_has_no_effect_or_leaves_no_progress_is_refused(
    tiny_bundle: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        Encoder(tiny_bundle, max_tokens=LIMIT, **options)


@pytest.mark.parametrize("on_long", [OnLong.WINDOWS, OnLong.DEAD_LETTER, OnLong.FAIL])
def test_texts_whose_tokens_only_the_graph_knows_cannot_be_too_long(
    text_bundle: Path, on_long: OnLong
) -> None:
    with pytest.raises(SettingsError, match=f"--on_long {on_long}: lengths tokenizes inside its graph"):
        Encoder(text_bundle, long_texts=LongTexts(on_long))
    with pytest.raises(SettingsError, match="--max_tokens 5: lengths tokenizes inside its graph"):
        Encoder(text_bundle, max_tokens=5)


def test_scores_of_texts_are_not_joined(build_head: Callable[[str], ModelBundle]) -> None:
    from model_bundle.inference.classifier import Classifier

    with pytest.raises(SettingsError, match="no general way to combine them"):
        Classifier(build_head("tiny_distilbert_mood"), long_texts=LongTexts(OnLong.WINDOWS))


def test_words_of_long_texts_are_judged_each_where_it_stands_best(
    build_head: Callable[[str], ModelBundle],
) -> None:
    """A classifier of words says of a short text what it always says, and drops no word of a long one."""
    from model_bundle.inference.classifier import Classifier

    tagger = build_head("tiny_bert_entities")
    long_texts = LongTexts(OnLong.WINDOWS, 4)
    text = "Ada met Charles in London . " * 20
    found = Classifier(tagger, long_texts=long_texts, max_tokens=16).classify(["Ada met Charles", text])
    plain = Classifier(tagger).classify(["Ada met Charles"])
    np.testing.assert_allclose(found.logits[:3], plain.logits, atol=1e-5)
    assert found.words is not None
    assert found.words.words[3:] == text.split()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"long_texts": windows(Combine.MAX), "precision": Precision.BFLOAT16},
        {"rows": Rows.WORD, "word_pieces": WordPieces.FIRST},
        {"long_texts": LongTexts(OnLong.DEAD_LETTER)},
    ],
)
def test_a_request_is_read_back_as_it_was_stored(tiny_bundle: Path, options: dict[str, Any]) -> None:
    request = EncodeRequest.resolve(ModelBundle.open(tiny_bundle), **options)
    stored = json.loads(json.dumps(request.to_json() | {"vector_dtype": "float32"}))
    assert EncodeRequest.from_json(stored) == request

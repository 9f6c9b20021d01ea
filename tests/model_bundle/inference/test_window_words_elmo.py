"""Long texts of models whose tokens are words: the same windows, counted in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_bundle import Combine, Encoder, LongTexts, OnLong, SettingsError
from tests.support.runs.jobs import run_job, write_texts

Open = Callable[..., Encoder]
TEXT = "The quick brown fox jumps over the lazy dog , and nobody knows why"
WORDS = TEXT.split()
WINDOWS = LongTexts(OnLong.WINDOWS, 2)


@pytest.mark.slow
def test_windows_are_counted_in_words(tiny_elmo: Path, open_encoder: Open) -> None:
    """Fourteen words, six at once, two of them again: 0-6, 4-10, 8-14."""
    plain = open_encoder(tiny_elmo)
    parts = plain.encode([" ".join(WORDS[a : a + 6]) for a in (0, 4, 8)])
    rows = Encoder(tiny_elmo, rows="window", max_tokens=6, long_texts=WINDOWS)
    (encoded,) = rows.encode_buffers([TEXT, "a fox"])
    np.testing.assert_allclose(next(iter(encoded.vectors.values()))[:3], parts, atol=1e-5)
    assert encoded.windows is not None
    spans = [TEXT[a:b] for a, b in zip(encoded.windows.start[:3], encoded.windows.end[:3], strict=True)]
    assert [span.split() for span in spans] == [WORDS[a : a + 6] for a in (0, 4, 8)]
    assert encoded.windows.num_tokens.tolist() == [6, 6, 6, 2]
    # The four words in two windows count half in each: 5, 4 and 5 of fourteen.
    mean = Encoder(tiny_elmo, max_tokens=6, long_texts=WINDOWS).encode([TEXT])
    np.testing.assert_allclose(mean[0], np.array([5, 4, 5]) @ parts.astype(np.float64) / 14, atol=1e-5)
    largest = LongTexts(OnLong.WINDOWS, 2, Combine.MAX)
    found = Encoder(tiny_elmo, max_tokens=6, long_texts=largest).encode([TEXT])
    np.testing.assert_allclose(found[0], parts.max(axis=0), atol=1e-5)


@pytest.mark.slow
def test_a_prompt_of_words_stands_before_every_window(tiny_elmo: Path, open_encoder: Open) -> None:
    rows = Encoder(
        tiny_elmo, rows="window", max_tokens=6, prompt_text="Note : ", long_texts=LongTexts(OnLong.WINDOWS)
    )
    expected = open_encoder(tiny_elmo).encode(["Note : " + " ".join(WORDS[a : a + 4]) for a in (0, 4, 8, 12)])
    np.testing.assert_allclose(rows.encode([TEXT]), expected, atol=1e-5)


def test_every_word_comes_from_the_window_in_whose_middle_it_is_nearest(
    tiny_elmo: Path, open_encoder: Open
) -> None:
    by_word = open_encoder(tiny_elmo, rows="word")
    windows = [by_word.encode([" ".join(WORDS[a : a + 6])]) for a in (0, 4, 8)]
    expected = np.concatenate([windows[0][:5], windows[1][1:5], windows[2][1:]])
    found = Encoder(tiny_elmo, rows="word", max_tokens=6, long_texts=WINDOWS).encode([TEXT])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_a_limit_no_text_is_long(tiny_elmo: Path) -> None:
    with pytest.raises(SettingsError, match="takes texts of any length"):
        Encoder(tiny_elmo, long_texts=WINDOWS)
    with pytest.raises(SettingsError, match="--word_pieces first is for --rows word"):
        Encoder(tiny_elmo, rows="word", word_pieces="first")


@pytest.mark.slow
def test_truncation_to_words_is_counted(tiny_elmo: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", [TEXT, "a fox"])
    run = run_job(tmp_path, tiny_elmo, "--input", source, "--max_tokens", 6)
    assert run.exit_code == 0, run.stderr
    counts = run.manifest.counts
    assert (counts.num_truncated, counts.num_lost_tokens, counts.num_tokens) == (1, 8, 8)
    dead = run_job(
        tmp_path, tiny_elmo, "--input", source, "--max_tokens", 6, "--on_long", "dead_letter", run_id="dead"
    )
    assert [letter["message"] for letter in dead.dead] == ["The text has 14 tokens, the limit is 6."]

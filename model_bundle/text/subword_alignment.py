"""Aligns subword tokens with words: the characters and the tokens of each word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.text.subwords import SubwordInput, SubwordTexts, join_ids


@dataclass(frozen=True)
class TextWords:
    """The words of one text.

    ``spans``: int32[words, 2], start and end character. ``pieces``: int32[words, 2], start and end token,
    special tokens counted.
    """

    spans: np.ndarray
    pieces: np.ndarray

    def truncated(self, num_tokens: int) -> TextWords:
        """Drops words that begin at this token or later, and such pieces of the last word."""
        kept = self.pieces[:, 0] < num_tokens
        return TextWords(self.spans[kept], np.minimum(self.pieces[kept], num_tokens))


@dataclass(frozen=True)
class SubwordWordTexts(SubwordTexts):
    """See ``SubwordTexts`` and ``PreparedWords``. ``texts`` include the prompt."""

    texts: Sequence[str]
    text_words: Sequence[TextWords]
    num_words: np.ndarray
    prompt_length: int

    def words(self, text: int) -> tuple[list[str], np.ndarray]:
        """See ``PreparedWords.words``. Words of the prompt have offsets 0 to 0."""
        spans = self.text_words[text].spans
        spelled = [self.texts[text][start:stop] for start, stop in spans]
        return spelled, np.maximum(spans - self.prompt_length, 0)

    def pieces(self, text: int) -> np.ndarray:
        """See ``PreparedWords.pieces``."""
        return self.text_words[text].pieces


class SubwordWordInput(SubwordInput):
    """``SubwordInput`` that keeps the words of texts, as the tokenizer itself defines them.

    BERT's tokenizer splits at spaces and makes every punctuation mark a word; byte-level ones and
    SentencePiece have rules of their own. Runs of white space, words for some of them, are dropped.
    """

    _needs_offsets = True

    def collect(self, encodings: Iterable[tuple[str, Any]]) -> SubwordWordTexts:
        """See ``SubwordInput.collect``; the encodings need offsets."""
        kept: list[np.ndarray] = []
        num_tokens: list[int] = []
        num_words: list[int] = []
        words: list[TextWords] = []
        full: list[str] = []
        for text, encoding in encodings:
            ids, found = np.array(encoding.ids, dtype=np.int32), _words_of(encoding, text)
            full.append(text)
            num_tokens.append(len(ids))
            num_words.append(len(found.spans))
            kept.append(self._truncate(ids))
            if len(kept[-1]) < len(ids):
                found = found.truncated(len(kept[-1]) - self.num_tail)
            words.append(found)
        ids, starts = join_ids(kept)
        return SubwordWordTexts(
            ids=ids,
            starts=starts,
            num_tokens=np.array(num_tokens, dtype=np.int32),
            pad_id=self._pad_id,
            unknown_id=self.unknown_id,
            num_fixed=self.num_fixed,
            num_tail=self.num_tail,
            num_skipped=self.num_skipped,
            texts=full,
            text_words=words,
            num_words=np.array(num_words, dtype=np.int32),
            prompt_length=len(self._prompt),
        )


def _words_of(encoding: Any, text: str) -> TextWords:
    """Joins adjacent tokens of one word, and drops words of white space only."""
    numbers = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int32)
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    first, stop = np.append(0, cuts), np.append(cuts, len(numbers))
    real = numbers[first] >= 0 if len(numbers) else np.zeros(len(first), dtype=bool)
    spans, pieces = [], []
    offsets = encoding.offsets
    for begin, end in zip(first[real].tolist(), stop[real].tolist(), strict=True):
        span = _stripped(text, offsets[begin][0], offsets[end - 1][1])
        if span is not None:
            spans.append(span)
            pieces.append((begin, end))
    return TextWords(
        np.array(spans, dtype=np.int32).reshape(-1, 2), np.array(pieces, dtype=np.int32).reshape(-1, 2)
    )


def _stripped(text: str, start: int, stop: int) -> tuple[int, int] | None:
    """Strips white space, which byte-level tokenizers and SentencePiece include in a word."""
    word = text[start:stop]
    inner = word.strip()
    if not inner:
        return None
    start += len(word) - len(word.lstrip())
    return start, start + len(inner)

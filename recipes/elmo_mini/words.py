"""Splits texts into words and words into characters, once for the whole training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model_bundle.bundle.specs import TokenizerSpec
from model_bundle.text.words import WordInput

# The bundle splits text in the same way.
WORD_SPLIT: Literal["unicode"] = "unicode"
# The ids of boundaries and word marks in model_bundle.builders.graphs.elmo_characters.
SENTENCE_BEGIN, SENTENCE_END, WORD_BEGIN, WORD_END, PADDING = 257, 258, 259, 260, 261
BEGIN, END = "<S>", "</S>"
# Longer words, one in a thousand, are truncated to this many bytes in training only.
MAX_BYTES = 18
# Words up to this many bytes are encoded separately, to halve padding.
SHORT_BYTES = 7
# The width of the widest filter.
_TAIL = 5
SHORT_COLUMNS, COLUMNS = SHORT_BYTES + 2 + _TAIL, MAX_BYTES + 2 + _TAIL


def split(texts: Sequence[str]) -> list[list[str]]:
    """Returns the words of each text, including punctuation marks."""
    prepared = WordInput(TokenizerSpec(kind="words", word_split=WORD_SPLIT), None).prepare(texts)
    return [prepared.words(index)[0] for index in range(len(texts))]


def spelled(word: str) -> np.ndarray:
    """Returns int32[COLUMNS] ids of a word's characters, or of a boundary.

    >>> spelled("at")[:6].tolist()
    [259, 98, 117, 260, 261, 261]
    """
    marks = {BEGIN: [SENTENCE_BEGIN], END: [SENTENCE_END]}
    inside = marks.get(word) or [byte + 1 for byte in word.encode("utf-8", "ignore")[:MAX_BYTES]]
    ids = np.full(COLUMNS, PADDING, np.int32)
    ids[: len(inside) + 2] = [WORD_BEGIN, *inside, WORD_END]
    return ids


@dataclass(frozen=True)
class Spelling:
    """The distinct words of a batch: int32[short, SHORT_COLUMNS] and int32[long, COLUMNS]."""

    short: np.ndarray
    long: np.ndarray


class Lexicon:
    """Indexes every word that occurs, with its characters.

    Args:
        texts: words of texts.
    """

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        found = dict.fromkeys([BEGIN, END])
        for words in texts:
            found.update(dict.fromkeys(words))
        self.number_of = {word: number for number, word in enumerate(found)}
        self.begin, self.end = self.number_of[BEGIN], self.number_of[END]
        self._ids = np.stack([spelled(word) for word in found])
        self._is_short = self._ids[:, SHORT_BYTES + 2] == PADDING

    def __len__(self) -> int:
        return len(self._ids)

    def numbers(self, words: Sequence[str]) -> np.ndarray:
        """Returns the indexes of words, int32[words]."""
        return np.array([self.number_of[word] for word in words], np.int32)

    def spelling(self, numbers: np.ndarray) -> tuple[Spelling, np.ndarray]:
        """Returns the spellings of the distinct words, and the position of each index among them, int32."""
        distinct, places = np.unique(numbers, return_inverse=True)
        order = np.argsort(~self._is_short[distinct], kind="stable")
        ids, num_short = self._ids[distinct[order]], int(self._is_short[distinct].sum())
        moved = np.empty_like(order)
        moved[order] = np.arange(len(order))
        spelling = Spelling(ids[:num_short, :SHORT_COLUMNS], ids[num_short:])
        return spelling, moved[places].reshape(numbers.shape).astype(np.int32)

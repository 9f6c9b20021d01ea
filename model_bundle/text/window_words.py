"""Words of long texts: from which window each is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WordParts:
    """Words, or parts of words, whose vectors are taken from one batch row.

    ``words``: int64[parts], indices of words in the text. ``pieces``: int[parts, 2], start and end token in
    that row. ``num_pieces``: int[parts], tokens of the whole word. ``is_first``: bool[parts], whether a part
    contains its word's first token.
    """

    words: np.ndarray
    pieces: np.ndarray
    num_pieces: np.ndarray
    is_first: np.ndarray

    @classmethod
    def whole(cls, pieces: np.ndarray) -> WordParts:
        """Returns all words of a text that has a single row."""
        num_words = len(pieces)
        counts = pieces[:, 1] - pieces[:, 0]
        return cls(np.arange(num_words), pieces, counts, np.ones(num_words, dtype=bool))

    def first_pieces(self) -> WordParts:
        """Returns only the first token of each word."""
        first = self.pieces[self.is_first, 0]
        ones = np.ones(len(first), dtype=np.int64)
        return WordParts(self.words[self.is_first], np.stack([first, first + 1], axis=1), ones, ones > 0)

    def chosen(self, kept: np.ndarray) -> WordParts:
        """Returns the parts at these positions."""
        return WordParts(self.words[kept], self.pieces[kept], self.num_pieces[kept], self.is_first[kept])


def assign_words(pieces: np.ndarray, tokens: np.ndarray, num_fixed: int) -> tuple[WordParts, np.ndarray]:
    """Assigns each word to the window whose middle is nearest, of those that contain the whole word.

    If no window contains the whole word, each of its tokens is assigned in the same way. Words of the prompt,
    which is in every window, are taken from the first.

    Args:
        pieces: int[words, 2], start and end token of each word.
        tokens: int64[windows, 2], start and end of the windows, counted after ``num_fixed`` tokens.
        num_fixed: special tokens and those of the prompt.

    Returns:
        The parts in the order of their windows, and int64[windows + 1] where those of each window begin.
    """
    owner = _nearest(pieces.astype(np.int64) - num_fixed, tokens)
    counts = pieces[:, 1] - pieces[:, 0]
    word = np.repeat(np.arange(len(pieces)), counts)
    within = np.arange(len(word)) - np.repeat(np.cumsum(counts) - counts, counts)
    token = pieces[word, 0] + within
    of_token = owner[word]
    split = np.flatnonzero(of_token < 0)
    behind = token[split] - num_fixed
    of_token[split] = _nearest(np.stack([behind, behind + 1], axis=1), tokens)
    begins = np.flatnonzero((np.diff(word, prepend=-1) != 0) | (np.diff(of_token, prepend=-1) != 0))
    stops = np.append(begins[1:], len(word))
    windows = of_token[begins]
    shift = np.where(token[begins] < num_fixed, 0, tokens[windows, 0])
    order = np.argsort(windows, kind="stable")
    parts = WordParts(
        words=word[begins],
        pieces=np.stack([token[begins] - shift, token[begins] - shift + stops - begins], axis=1),
        num_pieces=counts[word[begins]],
        is_first=within[begins] == 0,
    )
    return parts.chosen(order), np.searchsorted(windows[order], np.arange(len(tokens) + 1))


def _nearest(spans: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Returns int64[spans]: of the windows containing a span, the one with the nearest middle; -1 for none.

    The last window counts as if it were full: the end of a text does not reduce context.
    """
    room = int(tokens[0, 1] - tokens[0, 0])
    step = int(tokens[1, 0]) if len(tokens) > 1 else max(room, 1)
    first, stop = np.maximum(spans[:, 0], 0), spans[:, 1]
    lowest = np.maximum(-((room - stop) // step), 0)
    highest = np.minimum(first // step, len(tokens) - 1)
    wanted = (first + stop - room + step) // (2 * step)
    return np.where(lowest <= highest, np.clip(wanted, lowest, np.maximum(highest, lowest)), -1)

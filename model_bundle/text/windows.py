"""Long texts as overlapping windows: their tokens and characters, and how they are batched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from model_bundle.text.prepared import PreparedTexts
from model_bundle.text.window_words import WordParts, assign_words

# Returns the start and end character of a token.
Place = Callable[[int], tuple[int, int]]
_DIGESTS_AT_ONCE = 512


class WholeTexts(PreparedTexts, Protocol):
    """Texts without truncation, whose tokens can be selected freely."""

    def gather(self, texts: np.ndarray, tokens: np.ndarray, is_real: np.ndarray) -> dict[str, np.ndarray]:
        """Returns a batch of selected tokens.

        Args:
            texts: int64[batch], which texts.
            tokens: int64[batch, longest], which tokens of each; padded cells may hold anything.
            is_real: bool[batch, longest], False on padding, which is at the end.
        """


@dataclass(frozen=True)
class TextWindows:
    """The windows of one text.

    ``tokens``: int64[windows, 2], start and end, counted after the special tokens and the prompt; every
    window begins with these ``num_fixed`` tokens. ``spans``: int32[windows, 2], the same in characters of the
    text.
    """

    num_fixed: int
    tokens: np.ndarray
    spans: np.ndarray


def cut(num_tokens: int, room: int, overlap: int) -> np.ndarray:
    """Splits tokens into windows.

    Args:
        num_tokens: of the text.
        room: tokens per window.
        overlap: tokens that adjacent windows share, less than ``room``.

    Returns:
        int64[windows, 2]: start and end token. The windows cover every token; all but the last are full, and
        the last has more than ``overlap``. No tokens give one empty window.

    >>> cut(10, room=6, overlap=2).tolist()
    [[0, 6], [4, 10]]
    """
    step = room - overlap
    num_windows = 1 + max(-((room - num_tokens) // step), 0)
    first = np.arange(num_windows, dtype=np.int64) * step
    return np.stack([first, np.minimum(first + room, num_tokens)], axis=1)


def character_spans(tokens: np.ndarray, place: Place, num_characters: int) -> np.ndarray:
    """Returns the characters of windows, which cover the whole text.

    A window begins with its first token's first character and ends where the next token begins: characters
    between tokens, and those that the tokenizer drops, belong to the preceding window. The first window
    begins with the text, the last ends with it.

    Args:
        tokens: int64[windows, 2], see ``cut``.
        place: returns the start and end character of a token.
        num_characters: of the text.

    Returns:
        int32[windows, 2].
    """
    begins = [0] + [place(int(first))[0] for first in tokens[1:, 0]]
    # A character of several (byte) tokens may be split; it is then in both windows.
    ends = [max(place(int(stop) - 1)[1], place(int(stop))[0]) for stop in tokens[:-1, 1]]
    ends = [max(end, begin) for end, begin in zip(ends, begins[1:], strict=True)]
    return np.array([begins, [*ends, num_characters]], dtype=np.int32).T


class WindowedTexts:
    """Texts batched by window: like ``PreparedTexts``, with one batch row per window.

    Args:
        whole: the texts.
        windows: of each text.
        num_tail: special tokens at the end of every window.
    """

    def __init__(self, whole: WholeTexts, windows: Sequence[TextWindows], num_tail: int) -> None:
        self.whole = whole
        self._num_tail = num_tail
        counts = [len(one.tokens) for one in windows]
        self.texts = np.repeat(np.arange(len(windows), dtype=np.int64), counts)
        self.starts = np.cumsum([0, *counts])
        self._num_fixed = np.array([one.num_fixed for one in windows], dtype=np.int64)
        self._tokens = np.concatenate([one.tokens for one in windows] or [np.zeros((0, 2), np.int64)])
        self.spans = np.concatenate([one.spans for one in windows] or [np.zeros((0, 2), np.int32)])
        self._word_parts: dict[int, tuple[WordParts, np.ndarray]] = {}

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32[windows], tokens fed to the model: special ones, the prompt's and the text's."""
        own = self._tokens[:, 1] - self._tokens[:, 0]
        return np.asarray(self._num_fixed[self.texts] + own + self._num_tail, dtype=np.int32)

    @property
    def own_tokens(self) -> np.ndarray:
        """int64[windows, 2], start and end token in the text, without special tokens and the prompt."""
        return np.asarray(self._tokens + self._num_fixed[self.texts, np.newaxis])

    @property
    def num_tokens(self) -> np.ndarray:
        """int32[texts], tokens of each text, special ones and the prompt counted once."""
        return self.whole.num_tokens

    @property
    def num_windows(self) -> np.ndarray:
        """int64[texts], windows per text."""
        return np.diff(self.starts)

    @property
    def num_fed_tokens(self) -> np.ndarray:
        """int64[texts], tokens in all windows of a text."""
        sums = np.bincount(self.texts, self.lengths, minlength=len(self.starts) - 1)
        return np.asarray(sums, dtype=np.int64)

    @property
    def index(self) -> np.ndarray:
        """int32[windows], the index of each window in its text, from 0."""
        return np.asarray(np.arange(len(self.texts)) - self.starts[self.texts], dtype=np.int32)

    def batch(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the windows at these positions, padded to the longest: arrays by input role."""
        texts, lengths = self.texts[windows], self.lengths[windows].astype(np.int64)[:, np.newaxis]
        columns = np.arange(int(lengths.max(initial=1)))
        own = np.where(columns < self._num_fixed[texts, np.newaxis], 0, self._tokens[windows, :1]) + columns
        in_tail = columns - (lengths - self._num_tail)
        tail = (self.num_tokens[texts, np.newaxis] - self._num_tail) + in_tail
        return self.whole.gather(texts, np.where(in_tail >= 0, tail, own), columns < lengths)

    @cached_property
    def digests(self) -> list[str]:
        """The sha256 of what the model gets of each window, special tokens and the prompt included.

        Windows of equal digests have the same vector, whichever text they are from.
        """
        found: list[str] = []
        for rows in np.array_split(np.arange(len(self.texts)), -(-len(self.texts) // _DIGESTS_AT_ONCE) or 1):
            arrays, lengths = self.batch(rows), self.lengths[rows].tolist()
            found += [_digest(arrays, row, length) for row, length in enumerate(lengths)]
        return found

    def shares(self) -> np.ndarray:
        """Returns float64[windows]: the tokens of each; one that is in n windows counts 1/n in each."""
        shares = np.zeros(len(self.texts))
        for begin, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            tokens = self._tokens[begin:stop]
            steps = np.zeros(tokens[-1, 1] + 1)
            np.add.at(steps, tokens[:, 0], 1.0)
            np.add.at(steps, tokens[:, 1], -1.0)
            sums = np.append(0.0, np.cumsum(1.0 / np.cumsum(steps[:-1])))
            shares[begin:stop] = sums[tokens[:, 1]] - sums[tokens[:, 0]]
        return shares

    def parts(self, window: int, pieces: Callable[[int], np.ndarray]) -> WordParts:
        """Returns the words and word parts to take from a window; not thread-safe.

        Args:
            window: its position.
            pieces: see ``PreparedWords.pieces``.
        """
        text = int(self.texts[window])
        begin = int(self.starts[text])
        if text not in self._word_parts:
            tokens = self._tokens[begin : self.starts[text + 1]]
            self._word_parts[text] = assign_words(pieces(text), tokens, int(self._num_fixed[text]))
        parts, bounds = self._word_parts[text]
        return parts.chosen(np.arange(bounds[window - begin], bounds[window - begin + 1]))


def _digest(arrays: Mapping[str, np.ndarray], row: int, length: int) -> str:
    """Returns the sha256 of one row of a batch: of its ids or its words, without padding."""
    if "ids" in arrays:
        return hashlib.sha256(arrays["ids"][row, :length].astype("<i4").tobytes()).hexdigest()
    words = arrays["words"][row, :length]
    # With the length of each: no byte could stand between words that none of them may hold.
    sizes = np.array([length, *map(len, words)], dtype="<i8").tobytes()
    return hashlib.sha256(sizes + b"".join(words)).hexdigest()


class WindowInput(Protocol):
    """Converts text to windows. Thread-safe."""

    def prepare(self, texts: Sequence[Any]) -> WindowedTexts:
        """Tokenizes strings or pairs and splits them into windows; nothing is padded yet."""

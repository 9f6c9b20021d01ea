"""Protocols of prepared texts, and the inputs of graphs that tokenize themselves or take no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class PreparedTexts(Protocol):
    """Texts ready for the model, not yet padded."""

    @property
    def lengths(self) -> np.ndarray:
        """int32[texts], cells per text in a batch, after truncation."""

    @property
    def num_tokens(self) -> np.ndarray:
        """int32[texts], tokens before truncation."""

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the texts at these positions, padded to the longest: arrays by role (see ``InputSpec``)."""


class PreparedWords(PreparedTexts, Protocol):
    """Texts split into words; a token is a word or a piece of one."""

    @property
    def num_words(self) -> np.ndarray:
        """int32[texts], words before truncation."""

    def words(self, text: int) -> tuple[list[str], np.ndarray]:
        """Returns the words of a text that are left after truncation, and their positions.

        Returns:
            The words, and int32[words, 2]: start and end offset in characters of the original text (without
            the prompt).
        """

    def pieces(self, text: int) -> np.ndarray:
        """Returns int32[words, 2]: start and end token of each of these words."""


class TextInput(Protocol):
    """Converts text to model input. Thread-safe."""

    def prepare(self, texts: Sequence[Any]) -> PreparedTexts:
        """Tokenizes strings, or pairs of them where the model takes two texts; nothing is padded yet."""


@dataclass(frozen=True)
class PlainTexts:
    """Texts for a graph that takes the string itself. The length of a text is its number of words."""

    texts: Sequence[str]
    lengths: np.ndarray
    num_tokens: np.ndarray

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns ``text``: object[batch] of UTF-8 bytes."""
        return {"text": np.array([self.texts[i].encode("utf-8") for i in texts], dtype=object)}


class PlainTextInput:
    """Passes strings through, for graphs that tokenize themselves."""

    def __init__(self, prompt: str = "", lowercase: bool = False) -> None:
        self._prompt = prompt
        self._lowercase = lowercase

    def prepare(self, texts: Sequence[str]) -> PlainTexts:
        """Counts words by spaces, since only the graph knows its tokens."""
        full = [self._prompt + text for text in texts]
        if self._lowercase:
            full = [text.lower() for text in full]
        lengths = np.array([max(text.count(" ") + 1, 1) for text in full], dtype=np.int32)
        return PlainTexts(full, lengths, lengths)


@dataclass(frozen=True)
class NoTexts:
    """Rows for a graph that takes numbers only; each counts as one token."""

    lengths: np.ndarray
    num_tokens: np.ndarray

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns an empty dict: text is not fed."""
        del texts
        return {}


class NoTextInput:
    """Ignores the text, for graphs that take numbers only."""

    def prepare(self, texts: Sequence[str]) -> NoTexts:
        """Counts rows."""
        ones = np.ones(len(texts), dtype=np.int32)
        return NoTexts(ones, ones)

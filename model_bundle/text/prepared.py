"""What every way of preparing text has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class PreparedTexts(Protocol):
    """Texts ready for the model, not yet padded."""

    @property
    def lengths(self) -> np.ndarray:
        """int32[texts], what a text costs in a batch, after truncation."""
        ...

    @property
    def num_tokens(self) -> np.ndarray:
        """int32[texts], tokens before truncation."""
        ...

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Pads the texts at these positions to the longest; arrays by input role (see ``InputSpec``)."""
        ...


class PreparedWords(PreparedTexts, Protocol):
    """Texts split into words; a token is a word, or a piece of one."""

    @property
    def num_words(self) -> np.ndarray:
        """int32[texts], words before truncation."""
        ...

    def words(self, text: int) -> tuple[list[str], np.ndarray]:
        """Returns the words of a text that are left after truncation, and where they stand.

        Returns:
            The words, and int32[words, 2]: first character and the one behind the last, in the text as it was
            given (a prompt before it does not count).
        """
        ...

    def pieces(self, text: int) -> np.ndarray:
        """Returns int32[words, 2]: the first token of each of these words, and the one behind its last."""
        ...


class TextInput(Protocol):
    """Makes text into model input. One object serves all threads of a process."""

    def prepare(self, texts: Sequence[str]) -> PreparedTexts:
        """Tokenizes texts; nothing is padded yet."""
        ...


@dataclass(frozen=True)
class PlainTexts:
    """Texts for a graph that takes the string itself. Length in words is what a text costs."""

    texts: Sequence[str]
    lengths: np.ndarray
    num_tokens: np.ndarray

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns ``text``: object[batch] of UTF-8 bytes."""
        return {"text": np.array([self.texts[i].encode("utf-8") for i in texts], dtype=object)}


class PlainTextInput:
    """Hands strings through, for graphs that tokenize themselves."""

    def __init__(self, prompt: str = "", lowercase: bool = False) -> None:
        self._prompt = prompt
        self._lowercase = lowercase

    def prepare(self, texts: Sequence[str]) -> PlainTexts:
        """Counts words by spaces; the graph alone knows its own tokens."""
        full = [self._prompt + text for text in texts]
        if self._lowercase:
            full = [text.lower() for text in full]
        lengths = np.array([max(text.count(" ") + 1, 1) for text in full], dtype=np.int32)
        return PlainTexts(full, lengths, lengths)


@dataclass(frozen=True)
class NoTexts:
    """Rows for a graph that takes numbers alone; each costs one token."""

    lengths: np.ndarray
    num_tokens: np.ndarray

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns nothing: what the text says is not fed."""
        del texts
        return {}


class NoTextInput:
    """Hands nothing through, for graphs that take numbers alone."""

    def prepare(self, texts: Sequence[str]) -> NoTexts:
        """Counts rows."""
        ones = np.ones(len(texts), dtype=np.int32)
        return NoTexts(ones, ones)

"""Splits texts into windows, for both kinds of tokenizer; every window begins with the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from model_bundle.errors import SettingsError
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.windows import Place, TextWindows, WindowedTexts, character_spans, cut
from model_bundle.text.words import WordInput


class _Cutter:
    """Splits texts into windows of ``max_tokens``.

    Args:
        capacity: tokens of a window, without special ones.
        num_head: special tokens at the start.
        num_prompt: tokens of the prompt.
        overlap: tokens that adjacent windows share.

    Raises:
        SettingsError: the overlap leaves a window no room for new tokens.
    """

    def __init__(self, capacity: int, num_head: int, num_prompt: int, overlap: int) -> None:
        room = capacity - num_prompt
        if room < 1 or not 0 <= overlap < room:
            advice = f"Use 0 to {room - 1}." if room > 0 else "Use a larger --max_tokens."
            raise SettingsError(
                f"--window_overlap {overlap}: after special tokens and {num_prompt} of the prompt, a window "
                f"has room for {max(room, 0)}, and must advance by at least one. {advice}"
            )
        self._capacity = capacity
        self._num_head = num_head
        self._overlap = overlap

    def cut(self, num_tokens: int, num_prompt: int, num_characters: int, place: Place) -> TextWindows:
        """Splits a text.

        Args:
            num_tokens: of the text with its prompt, without special ones.
            num_prompt: those of the prompt. Tokenized with the text they may be more than on their own; those
                that would leave no room count as text.
            num_characters: of the text.
            place: see ``character_spans``; counted after the prompt.
        """
        num_prompt = min(num_prompt, self._capacity - self._overlap - 1)
        tokens = cut(num_tokens - num_prompt, self._capacity - num_prompt, self._overlap)
        spans = character_spans(tokens, lambda token: place(token + num_prompt), num_characters)
        return TextWindows(self._num_head + num_prompt, tokens, spans)


class SubwordWindowInput:
    """Windows of subwords.

    A prompt should end with a space or a punctuation mark: a token that spans prompt and text belongs to the
    text and is in the first window only.

    Args:
        whole: tokenizes without a limit, with the prompt.
        max_tokens: of a window, including special ones and the prompt's.
        overlap: tokens that adjacent windows share.
        prompt: the one that ``whole`` prepends.

    Raises:
        SettingsError: see ``_Cutter``.
    """

    def __init__(self, whole: SubwordInput, max_tokens: int, overlap: int, prompt: str) -> None:
        self._whole = whole
        self._prompt_length = len(prompt)
        capacity = max_tokens - whole.num_head - whole.num_tail
        self._cutter = _Cutter(capacity, whole.num_head, whole.num_fixed - whole.num_head, overlap)

    def prepare(self, texts: Sequence[str]) -> WindowedTexts:
        """Tokenizes texts and splits them into windows."""
        windows: list[TextWindows] = []

        def seen() -> Iterator[tuple[str, Any]]:
            for text, encoding in self._whole.encodings(texts, offsets=True):
                windows.append(self._cut(text, encoding))
                yield text, encoding

        whole = self._whole.collect(seen())
        return WindowedTexts(whole, windows, self._whole.num_tail)

    def _cut(self, text: str, encoding: Any) -> TextWindows:
        def place(token: int) -> tuple[int, int]:
            start, stop = encoding.token_to_chars(token + self._whole.num_head)
            return max(start - self._prompt_length, 0), max(stop - self._prompt_length, 0)

        num_own, num_prompt = self._whole.num_own(encoding), self._whole.num_prompt(encoding)
        return self._cutter.cut(num_own, num_prompt, len(text) - self._prompt_length, place)


class WordWindowInput:
    """Windows of words.

    Args:
        whole: splits without a limit, with the prompt.
        max_tokens: words of a window, including the prompt's.
        overlap: words that adjacent windows share.
        prompt: the one that ``whole`` prepends.

    Raises:
        SettingsError: see ``_Cutter``.
    """

    def __init__(self, whole: WordInput, max_tokens: int, overlap: int, prompt: str) -> None:
        self._whole = whole
        self._prompt_length = len(prompt)
        (spans,) = whole.prepare(["a"]).char_spans
        self._cutter = _Cutter(max_tokens, 0, self._num_prompt(spans), overlap)

    def prepare(self, texts: Sequence[str]) -> WindowedTexts:
        """Splits texts into words and windows."""
        whole = self._whole.prepare(texts)
        windows = [self._cut(len(text), spans) for text, spans in zip(texts, whole.char_spans, strict=True)]
        return WindowedTexts(whole, windows, num_tail=0)

    def _cut(self, num_characters: int, spans: Sequence[tuple[int, int]]) -> TextWindows:
        def place(word: int) -> tuple[int, int]:
            start, stop = spans[word]
            return max(start - self._prompt_length, 0), max(stop - self._prompt_length, 0)

        return self._cutter.cut(len(spans), self._num_prompt(spans), num_characters, place)

    def _num_prompt(self, spans: Sequence[tuple[int, int]]) -> int:
        """Counts the words that end within the prompt; words are in order."""
        if not self._prompt_length:
            return 0
        return int(np.searchsorted([stop for _, stop in spans], self._prompt_length, side="right"))

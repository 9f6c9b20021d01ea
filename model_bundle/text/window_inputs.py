"""Splits texts into windows, for both kinds of tokenizer; every window begins with the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from model_bundle.errors import SettingsError
from model_bundle.text.grouping import Grouping, TokenPlaces
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.windows import Place, TextWindows, WindowedTexts, character_spans, cut
from model_bundle.text.words import WordInput

# Returns int64[tokens, 2], the start and end character of every token.
Spans = Callable[[], np.ndarray]


class _Cutter:
    """Splits texts into windows of ``max_tokens``.

    Args:
        capacity: tokens of a window, without special ones.
        num_head: special tokens at the start.
        num_prompt: tokens of the prompt.
        overlap: tokens that adjacent windows share.
        grouping: where windows end; None at any token.

    Raises:
        SettingsError: the overlap leaves a window no room for new tokens.
    """

    def __init__(
        self, capacity: int, num_head: int, num_prompt: int, overlap: int, grouping: Grouping | None
    ) -> None:
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
        self._grouping = grouping

    def cut(self, text: str, num_tokens: int, num_prompt: int, place: Place, spans: Spans) -> TextWindows:
        """Splits a text.

        Args:
            text: without the prompt.
            num_tokens: of the text with its prompt, without special ones.
            num_prompt: those of the prompt. Tokenized with the text they may be more than on their own; those
                that would leave no room count as text.
            place: see ``character_spans``; counts the tokens of the prompt, too.
            spans: returns the same for all these tokens.
        """
        num_prompt = min(num_prompt, self._capacity - self._overlap - 1)
        num_own, room = num_tokens - num_prompt, self._capacity - num_prompt
        if self._grouping is None or num_own <= room:
            tokens = cut(num_own, room, self._overlap)
        else:
            stops = np.maximum.accumulate(spans()[num_prompt:, 1])
            tokens = self._grouping.cut(text, TokenPlaces(stops), room)
        characters = character_spans(tokens, lambda token: place(token + num_prompt), len(text))
        return TextWindows(self._num_head + num_prompt, tokens, characters)


class SubwordWindowInput:
    """Windows of subwords.

    A prompt should end with a space or a punctuation mark: a token that spans prompt and text belongs to the
    text and is in the first window only.

    Args:
        whole: tokenizes without a limit, with the prompt.
        max_tokens: of a window, including special ones and the prompt's.
        overlap: tokens that adjacent windows share.
        prompt: the one that ``whole`` prepends.
        grouping: where windows end, with an overlap of its own; None at any token.

    Raises:
        SettingsError: see ``_Cutter``.
    """

    def __init__(
        self,
        whole: SubwordInput,
        max_tokens: int,
        overlap: int,
        prompt: str,
        grouping: Grouping | None = None,
    ) -> None:
        self._whole = whole
        self._prompt_length = len(prompt)
        capacity = max_tokens - whole.num_head - whole.num_tail
        num_prompt = whole.num_fixed - whole.num_head
        self._cutter = _Cutter(capacity, whole.num_head, num_prompt, overlap, grouping)

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

        def spans() -> np.ndarray:
            own = encoding.offsets[self._whole.num_head : self._whole.num_head + num_own]
            return np.array(own, dtype=np.int64) - self._prompt_length

        num_own, num_prompt = self._whole.num_own(encoding), self._whole.num_prompt(encoding)
        return self._cutter.cut(text[self._prompt_length :], num_own, num_prompt, place, spans)


class WordWindowInput:
    """Windows of words.

    Args:
        whole: splits without a limit, with the prompt.
        max_tokens: words of a window, including the prompt's.
        overlap: words that adjacent windows share.
        prompt: the one that ``whole`` prepends.
        grouping: where windows end, with an overlap of its own; None at any word.

    Raises:
        SettingsError: see ``_Cutter``.
    """

    def __init__(
        self, whole: WordInput, max_tokens: int, overlap: int, prompt: str, grouping: Grouping | None = None
    ) -> None:
        self._whole = whole
        self._prompt_length = len(prompt)
        (spans,) = whole.prepare(["a"]).char_spans
        self._cutter = _Cutter(max_tokens, 0, self._num_prompt(spans), overlap, grouping)

    def prepare(self, texts: Sequence[str]) -> WindowedTexts:
        """Splits texts into words and windows."""
        whole = self._whole.prepare(texts)
        windows = [self._cut(text, spans) for text, spans in zip(texts, whole.char_spans, strict=True)]
        return WindowedTexts(whole, windows, num_tail=0)

    def _cut(self, text: str, spans: Sequence[tuple[int, int]]) -> TextWindows:
        def place(word: int) -> tuple[int, int]:
            start, stop = spans[word]
            return max(start - self._prompt_length, 0), max(stop - self._prompt_length, 0)

        def places() -> np.ndarray:
            return np.array(spans, dtype=np.int64) - self._prompt_length

        return self._cutter.cut(text, len(spans), self._num_prompt(spans), place, places)

    def _num_prompt(self, spans: Sequence[tuple[int, int]]) -> int:
        """Counts the words that end within the prompt; words are in order."""
        if not self._prompt_length:
            return 0
        return int(np.searchsorted([stop for _, stop in spans], self._prompt_length, side="right"))

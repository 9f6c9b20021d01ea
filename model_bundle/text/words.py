"""Splits text into words, for models with character-based word input (ELMo)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_bundle.bundle.specs import TokenizerSpec

_NOT_SPACES = re.compile(r"[^ ]+")
CharSpans = list[tuple[int, int]]


@dataclass(frozen=True)
class WordTexts:
    """Texts and the positions of their words, already truncated.

    ``texts`` include the prompt, of ``prompt_length`` characters. ``char_spans``: start and end character of
    each word of each text.
    """

    texts: Sequence[str]
    char_spans: Sequence[CharSpans]
    num_tokens: np.ndarray
    prompt_length: int
    lowercase: bool = False

    @property
    def lengths(self) -> np.ndarray:
        """int32[texts], words of each text."""
        return np.array([len(spans) for spans in self.char_spans], dtype=np.int32)

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns ``words`` object[batch, longest] of UTF-8 bytes, and ``lengths`` int32[batch].

        Lone surrogates, which UTF-8 cannot encode, are left out, as bilm does.
        """
        lengths = np.array([len(self.char_spans[i]) for i in texts], dtype=np.int32)
        columns = np.arange(int(lengths.max(initial=1)))
        tokens = np.broadcast_to(columns, (len(texts), len(columns)))
        return self.gather(texts, tokens, columns < lengths[:, np.newaxis])

    def gather(self, texts: np.ndarray, tokens: np.ndarray, is_real: np.ndarray) -> dict[str, np.ndarray]:
        """See ``WholeTexts.gather``; returns the same arrays as ``batch``."""
        lengths = is_real.sum(axis=1, dtype=np.int32)
        words = np.full(is_real.shape, b"", dtype=object)
        for row, index in enumerate(texts):
            text, spans = self.texts[index], self.char_spans[index]
            places = [spans[token] for token in tokens[row, : lengths[row]].tolist()]
            words[row, : lengths[row]] = [self._encode(text[start:stop]) for start, stop in places]
        return {"words": words, "lengths": lengths}

    def words(self, text: int) -> tuple[list[str], np.ndarray]:
        """See ``PreparedWords.words``. Words of the prompt have offsets 0 to 0."""
        places = np.array(self.char_spans[text], dtype=np.int32).reshape(-1, 2) - self.prompt_length
        return self._spell(text), np.maximum(places, 0)

    def _encode(self, word: str) -> bytes:
        return (word.lower() if self.lowercase else word).encode("utf-8", "ignore")

    @property
    def num_words(self) -> np.ndarray:
        """See ``PreparedWords.num_words``."""
        return self.num_tokens

    def pieces(self, text: int) -> np.ndarray:
        """See ``PreparedWords.pieces``: a word is a token."""
        first = np.arange(len(self.char_spans[text]), dtype=np.int32)
        return np.stack([first, first + 1], axis=1)

    def _spell(self, text: int) -> list[str]:
        return [self.texts[text][start:stop] for start, stop in self.char_spans[text]]


class WordInput:
    """Splits texts into words by the bundle's rule.

    ``spaces``: at the space character only, as google/elmo does: punctuation and line ends stay attached, so
    text should already be tokenized. ``unicode``: at white space, with every punctuation mark a word, as
    BertPreTokenizer of the tokenizers library does.

    Args:
        spec: the bundle's tokenizer.
        max_tokens: words kept per text; None keeps all.
        prompt: prefix of every text.
    """

    def __init__(self, spec: TokenizerSpec, max_tokens: int | None, prompt: str = "") -> None:
        self._split = _splitter(spec)
        self._lowercase = bool(spec.lowercase)
        self._max_tokens = max_tokens
        self._prompt = prompt

    def prepare(self, texts: Sequence[str]) -> WordTexts:
        """Splits texts; nothing is padded yet."""
        full = [self._prompt + text for text in texts] if self._prompt else texts
        spans = [self._split(text) for text in full]
        num_tokens = np.array([len(words) for words in spans], dtype=np.int32)
        kept = [words[: self._max_tokens] for words in spans]
        return WordTexts(full, kept, num_tokens, len(self._prompt), self._lowercase)


def _splitter(spec: TokenizerSpec) -> Callable[[str], CharSpans]:
    if spec.word_split != "unicode":
        return _split_at_spaces
    from tokenizers.pre_tokenizers import BertPreTokenizer

    splitter = BertPreTokenizer()
    return lambda text: [span for _, span in splitter.pre_tokenize_str(text)]


def _split_at_spaces(text: str) -> CharSpans:
    return [match.span() for match in _NOT_SPACES.finditer(text)]

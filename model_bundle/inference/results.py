"""Converts model outputs to rows: one per text or one per word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from model_bundle.errors import ModelRunError
from model_bundle.text.prepared import PreparedTexts, PreparedWords
from model_bundle.text.unknown import UnknownTokens
from model_bundle.text.window_words import WordParts
from model_bundle.text.windows import WindowedTexts


@dataclass(frozen=True)
class TextFailure:
    """A text without a result: its position, a stable reason code, and a message."""

    text_index: int
    reason: str
    message: str


@dataclass(frozen=True)
class WordRows:
    """The words that rows stand for.

    ``index``: int32[rows], counted from 0 in each text. ``words``: their spelling. ``start``, ``end``:
    int32[rows], character offsets in the text.
    """

    index: np.ndarray
    words: list[str]
    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class WindowSpans:
    """The windows that rows stand for: all int32[rows].

    ``index`` counts from 0 in each text. ``start``, ``end`` are character offsets in the text. ``num_tokens``
    counts the window's tokens, including special tokens and the prompt. ``digests``: see
    ``WindowedTexts.digests``; empty where windows end at any token.
    """

    index: np.ndarray
    start: np.ndarray
    end: np.ndarray
    num_tokens: np.ndarray
    digests: Sequence[str] = ()


@dataclass
class EncodedTexts:
    """The results of some texts.

    ``vectors``: float32[rows, dim] by output name. ``row_texts``: int64[rows], the position of the text that
    a row belongs to, ascending; rows of failed texts are zero or missing. ``words``, ``windows``: one per
    row, where rows are words or windows. ``num_tokens``, ``num_tokens_untruncated``: int32[texts].
    ``num_words_untruncated``: int32[texts], where rows are words. ``num_padded_tokens``: computed cells,
    padding included. ``num_windows``: int64[texts], where long texts became windows. ``window_tokens``:
    int64[texts], tokens in all windows of a text. ``unknown``: None where such tokens cannot be counted.
    ``num_cut``: int32[texts, 2], where texts are pairs: tokens that each of the two lost.
    ``known_windows``: int64[…], rows whose vectors were known before; counts of fed tokens leave them out.
    """

    vectors: dict[str, np.ndarray]
    row_texts: np.ndarray
    words: WordRows | None
    num_tokens: np.ndarray
    num_tokens_untruncated: np.ndarray
    num_words_untruncated: np.ndarray | None = None
    num_padded_tokens: int = 0
    failures: list[TextFailure] = field(default_factory=list)
    windows: WindowSpans | None = None
    num_windows: np.ndarray | None = None
    window_tokens: np.ndarray | None = None
    unknown: UnknownTokens | None = None
    num_cut: np.ndarray | None = None
    known_windows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def num_fed_tokens(self) -> np.ndarray:
        """int[texts], tokens fed to the model; those in several windows count several times."""
        return self.num_tokens if self.window_tokens is None else self.window_tokens

    @property
    def was_truncated(self) -> np.ndarray:
        """bool[texts], texts that lost tokens."""
        return np.asarray(self.num_tokens < self.num_tokens_untruncated)

    @property
    def num_words(self) -> np.ndarray:
        """int64[texts], rows of each text; zeros where rows are not words."""
        if self.words is None:
            return np.zeros(len(self.num_tokens), dtype=np.int64)
        return np.bincount(self.row_texts, minlength=len(self.num_tokens))


class DocumentRowCollector:
    """Collects one vector per row of a batch; a row is a text.

    Args:
        prepared: the texts.
        dims: dimension by output name.
    """

    def __init__(self, prepared: PreparedTexts, dims: Mapping[str, int]) -> None:
        self._prepared = prepared
        num_texts = len(prepared.lengths)
        self._vectors = {name: np.zeros((num_texts, dim), np.float32) for name, dim in dims.items()}

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Stores float32[batch, dim] by output name; returns bool[batch], which texts are finite.

        Raises:
            ModelRunError: an output has another shape.
        """
        for name, kept in self._vectors.items():
            _check_shape(name, outputs[name].shape, (len(batch), kept.shape[1]))
        finite = np.all([np.isfinite(outputs[name]).all(axis=1) for name in self._vectors], axis=0)
        for name, kept in self._vectors.items():
            kept[batch[finite]] = outputs[name][finite]
        return np.asarray(finite)

    def finish(self) -> EncodedTexts:
        """Returns the stored rows."""
        prepared = self._prepared
        row_texts = np.arange(len(prepared.lengths))
        return EncodedTexts(self._vectors, row_texts, None, prepared.lengths, prepared.num_tokens)


class WordRowCollector:
    """Collects a vector for each word of each text.

    Args:
        prepared: the texts, split into words.
        dims: dimension by output name.
        first_piece: a word of several tokens gets the vector of its first token, else the mean over them.
    """

    def __init__(
        self, prepared: PreparedWords | WindowedTexts, dims: Mapping[str, int], *, first_piece: bool = False
    ) -> None:
        self._windows = prepared if isinstance(prepared, WindowedTexts) else None
        self._prepared = cast(PreparedWords, self._windows.whole if self._windows else prepared)
        self._dims = dims
        self._first_piece = first_piece
        self._states: dict[int, dict[str, np.ndarray]] = {}

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Stores float32[batch, longest, dim] by output name; returns bool[batch], which rows are finite.

        Raises:
            ModelRunError: an output has another shape.
        """
        for name, dim in self._dims.items():
            _check_shape(name, outputs[name].shape, (len(batch), outputs[name].shape[1], dim))
        finite = np.zeros(len(batch), dtype=bool)
        for row, item in enumerate(batch.tolist()):
            text, parts = self._parts(item)
            found = {name: word_states(outputs[name][row], parts) for name in self._dims}
            finite[row] = all(np.isfinite(array).all() for array in found.values())
            if finite[row]:
                for name, states in self._states_of(text).items():
                    states[parts.words] += found[name]
        return finite

    def _parts(self, item: int) -> tuple[int, WordParts]:
        """Returns the text of a row, and the word parts to take from it."""
        if self._windows is None:
            text, parts = item, WordParts.whole(self._prepared.pieces(item))
        else:
            text = int(self._windows.texts[item])
            parts = self._windows.parts(item, self._prepared.pieces)
        return text, parts.first_pieces() if self._first_piece else parts

    def _states_of(self, text: int) -> dict[str, np.ndarray]:
        if text not in self._states:
            num_words = len(self._prepared.pieces(text))
            self._states[text] = {n: np.zeros((num_words, dim), np.float32) for n, dim in self._dims.items()}
        return self._states[text]

    def finish(self) -> EncodedTexts:
        """Returns the stored rows, text by text."""
        prepared, texts = self._prepared, sorted(self._states)
        words = [prepared.words(text) for text in texts]
        lengths = [len(spelled) for spelled, _ in words]
        spans = np.concatenate([span for _, span in words]) if words else np.zeros((0, 2), np.int32)
        return EncodedTexts(
            vectors={
                name: np.concatenate([self._states[text][name] for text in texts])
                if texts
                else np.zeros((0, dim), np.float32)
                for name, dim in self._dims.items()
            },
            row_texts=np.repeat(np.array(texts, dtype=np.int64), lengths),
            words=WordRows(
                index=np.concatenate([np.arange(n, dtype=np.int32) for n in [0, *lengths]], dtype=np.int32),
                words=[word for spelled, _ in words for word in spelled],
                start=spans[:, 0],
                end=spans[:, 1],
            ),
            num_tokens=prepared.lengths,
            num_tokens_untruncated=prepared.num_tokens,
            num_words_untruncated=prepared.num_words,
            num_windows=self._windows.num_windows if self._windows else None,
            window_tokens=self._windows.num_fed_tokens if self._windows else None,
        )


def word_states(states: np.ndarray, parts: WordParts) -> np.ndarray:
    """Averages the tokens of each word; a part of a word gives its share of that mean.

    Args:
        states: float32[tokens, dim], one row of a batch; padding may follow.
        parts: the words or word parts to take from it.

    Returns:
        float32[parts, dim], a copy.
    """
    pieces = parts.pieces
    if not (parts.num_pieces > 1).any():
        return np.asarray(states[pieces[:, 0]], dtype=np.float32)
    # One extra row, because a word may end with the last token. Sums are at even positions.
    padded = np.concatenate([states, np.zeros_like(states[:1])])
    sums = np.add.reduceat(padded, pieces.reshape(-1), axis=0, dtype=np.float64)[::2]
    return np.asarray(sums / parts.num_pieces[:, np.newaxis], dtype=np.float32)


def _check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ModelRunError(
            f"Output {name} has shape {list(found)}, expected {list(expected)}: the model does not match its "
            "manifest. Check its outputs with: python -m model_bundle inspect"
        )

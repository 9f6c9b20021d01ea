"""Model outputs to rows: one a text, or one a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from model_bundle.errors import ModelRunError
from model_bundle.text.prepared import PreparedTexts, PreparedWords


@dataclass(frozen=True)
class TextFailure:
    """A text without a result: its position, a stable word to count by, and what happened."""

    text_index: int
    reason: str
    message: str


@dataclass(frozen=True)
class WordRows:
    """The words that rows stand for.

    ``index``: int32[rows], counted from 0 in each text. ``words``: what stands there. ``start``, ``end``:
    int32[rows], characters of the text.
    """

    index: np.ndarray
    words: list[str]
    start: np.ndarray
    end: np.ndarray


@dataclass
class EncodedTexts:
    """What came of some texts.

    ``vectors``: float32[rows, dim] by output name. ``row_texts``: int64[rows], the position of the text that
    a row belongs to, ascending; rows of failed texts hold zeros or are missing. ``words``: of each row, where
    rows are words. ``num_tokens``, ``num_tokens_untruncated``: int32[texts]. ``num_words_untruncated``:
    int32[texts], where rows are words. ``num_padded_tokens``: cells that were computed.
    """

    vectors: dict[str, np.ndarray]
    row_texts: np.ndarray
    words: WordRows | None
    num_tokens: np.ndarray
    num_tokens_untruncated: np.ndarray
    num_words_untruncated: np.ndarray | None = None
    num_padded_tokens: int = 0
    failures: list[TextFailure] = field(default_factory=list)

    @property
    def was_truncated(self) -> np.ndarray:
        """bool[texts]."""
        return np.asarray(self.num_tokens < self.num_tokens_untruncated)

    @property
    def num_words(self) -> np.ndarray:
        """int64[texts], rows of each text; zeros where rows are not words."""
        if self.words is None:
            return np.zeros(len(self.num_tokens), dtype=np.int64)
        return np.bincount(self.row_texts, minlength=len(self.num_tokens))


class DocumentRows:
    """Gathers one vector a text.

    Args:
        prepared: the texts.
        dims: dimension by output name.
    """

    def __init__(self, prepared: PreparedTexts, dims: Mapping[str, int]) -> None:
        self._prepared = prepared
        num_texts = len(prepared.lengths)
        self._vectors = {name: np.zeros((num_texts, dim), np.float32) for name, dim in dims.items()}

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Takes float32[batch, dim] by output name; gives bool[batch], which texts are finite.

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
        """Gives what was kept."""
        prepared = self._prepared
        row_texts = np.arange(len(prepared.lengths))
        return EncodedTexts(self._vectors, row_texts, None, prepared.lengths, prepared.num_tokens)


class EveryWord:
    """Gathers a vector for each word of each text.

    Args:
        prepared: the texts, split into words.
        dims: dimension by output name.
        first_piece: a word of several tokens gets what its first one got, else the mean over them.
    """

    def __init__(
        self, prepared: PreparedWords, dims: Mapping[str, int], *, first_piece: bool = False
    ) -> None:
        self._prepared = prepared
        self._dims = dims
        self._first_piece = first_piece
        self._states: dict[int, dict[str, np.ndarray]] = {}

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Takes float32[batch, longest, dim] by output name; gives bool[batch], which texts are finite.

        Raises:
            ModelRunError: an output has another shape.
        """
        for name, dim in self._dims.items():
            _check_shape(name, outputs[name].shape, (len(batch), outputs[name].shape[1], dim))
        finite = np.zeros(len(batch), dtype=bool)
        for row, text in enumerate(batch):
            pieces = self._prepared.pieces(int(text))
            states = {
                name: word_states(outputs[name][row], pieces, first_piece=self._first_piece)
                for name in self._dims
            }
            finite[row] = all(np.isfinite(array).all() for array in states.values())
            if finite[row]:
                self._states[int(text)] = states
        return finite

    def finish(self) -> EncodedTexts:
        """Gives what was kept, text by text."""
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
        )


def word_states(states: np.ndarray, pieces: np.ndarray, *, first_piece: bool) -> np.ndarray:
    """Makes one vector of the tokens of each word.

    Args:
        states: float32[tokens, dim], of one text; padding may follow.
        pieces: int32[words, 2], see ``PreparedWords.pieces``.
        first_piece: the first token's vector, else the mean.

    Returns:
        float32[words, dim], a copy.
    """
    first, counts = pieces[:, 0], pieces[:, 1] - pieces[:, 0]
    if first_piece or not (counts > 1).any():
        return np.asarray(states[first], dtype=np.float32)
    # One row more, because a word may end with the last token. Sums stand at even places.
    padded = np.concatenate([states, np.zeros_like(states[:1])])
    sums = np.add.reduceat(padded, pieces.reshape(-1), axis=0, dtype=np.float64)[::2]
    return np.asarray(sums / counts[:, np.newaxis], dtype=np.float32)


def _check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ModelRunError(
            f"Output {name} has shape {list(found)}, expected {list(expected)}: the model does not give what "
            "its manifest says. Check its outputs with: python -m model_bundle inspect"
        )

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
    rows are words. ``num_tokens``, ``num_tokens_untruncated``: int32[texts]. ``num_padded_tokens``: cells
    that were computed.
    """

    vectors: dict[str, np.ndarray]
    row_texts: np.ndarray
    words: WordRows | None
    num_tokens: np.ndarray
    num_tokens_untruncated: np.ndarray
    num_padded_tokens: int = 0
    failures: list[TextFailure] = field(default_factory=list)

    @property
    def was_truncated(self) -> np.ndarray:
        """bool[texts]."""
        return np.asarray(self.num_tokens < self.num_tokens_untruncated)


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
    """

    def __init__(self, prepared: PreparedWords, dims: Mapping[str, int]) -> None:
        self._prepared = prepared
        self._dims = dims
        self._states: dict[int, dict[str, np.ndarray]] = {}

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Takes float32[batch, longest, dim] by output name; gives bool[batch], which texts are finite.

        Raises:
            ModelRunError: an output has another shape.
        """
        lengths = self._prepared.lengths[batch]
        for name, dim in self._dims.items():
            _check_shape(name, outputs[name].shape, (len(batch), outputs[name].shape[1], dim))
        finite = np.zeros(len(batch), dtype=bool)
        for row, text in enumerate(batch):
            # A copy: a view would keep the padded batch alive.
            states = {name: outputs[name][row, : lengths[row]].copy() for name in self._dims}
            finite[row] = all(np.isfinite(array).all() for array in states.values())
            if finite[row]:
                self._states[int(text)] = states
        return finite

    def finish(self) -> EncodedTexts:
        """Gives what was kept, text by text."""
        prepared, texts = self._prepared, sorted(self._states)
        lengths = [int(prepared.lengths[text]) for text in texts]
        words = [prepared.words(text) for text in texts]
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
        )


def _check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ModelRunError(
            f"Output {name} has shape {list(found)}, expected {list(expected)}: the model does not give what "
            "its manifest says. Check its outputs with: python -m model_bundle inspect"
        )

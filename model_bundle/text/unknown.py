"""Counts unknown tokens: the id that stands for text outside a tokenizer's vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_bundle.text.prepared import PreparedTexts
from model_bundle.text.subwords import SubwordTexts
from model_bundle.text.windows import WindowedTexts


@dataclass(frozen=True)
class UnknownTokens:
    """Unknown tokens among those that the model sees; special tokens and the prompt do not count.

    ``of_texts``: int32[texts], each token counted once. ``of_rows``: int32[rows], of each window where long
    texts became windows, else of each text. ``num_fed``: int64[texts], summed over the windows of a text.
    ``num_own``: int32[texts], all tokens of the text itself, known ones included.
    """

    of_texts: np.ndarray
    of_rows: np.ndarray
    num_fed: np.ndarray
    num_own: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """float64[texts], the fraction of a text's own tokens that is unknown; 0 without tokens."""
        return np.asarray(self.of_texts / np.maximum(self.num_own, 1))


def unknown_tokens(prepared: PreparedTexts | WindowedTexts) -> UnknownTokens | None:
    """Counts the unknown tokens of texts; None if their tokenizer has no such token or is in the graph.

    Those of a pair are of both texts, and in windows of the second alone.
    """
    windows = prepared if isinstance(prepared, WindowedTexts) else None
    texts = prepared if windows is None else windows.whole
    if not isinstance(texts, SubwordTexts) or texts.unknown_id is None:
        return None
    places = np.flatnonzero(texts.ids == texts.unknown_id)
    begins = texts.starts[:-1]
    if windows is None:
        stop = texts.starts[1:] - texts.num_tail
        first = np.minimum(begins + texts.num_fixed, stop)
        found = _count(places, first, stop)
        num_own = (stop - first - texts.num_between).astype(np.int32)
        return UnknownTokens(found, found, found.astype(np.int64), num_own)
    own = windows.own_tokens + begins[windows.texts, np.newaxis]
    of_rows = _count(places, own[:, 0], own[:, 1])
    first, stop = own[windows.starts[:-1], 0], own[windows.starts[1:] - 1, 1]
    num_fed = np.bincount(windows.texts, of_rows, minlength=len(begins)).astype(np.int64)
    return UnknownTokens(_count(places, first, stop), of_rows, num_fed, (stop - first).astype(np.int32))


def _count(places: np.ndarray, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Returns int32[ranges]: how many of the ascending places each range contains, its end exclusive."""
    return (np.searchsorted(places, stop) - np.searchsorted(places, first)).astype(np.int32)

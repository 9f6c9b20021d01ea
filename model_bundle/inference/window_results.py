"""Collects vectors of windows: one row per window, or combined to one per text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_bundle.inference.results import DocumentRowCollector, EncodedTexts, WindowSpans
from model_bundle.inference.scores import scores_of
from model_bundle.runtime.long_texts import Combine
from model_bundle.runtime.pooling import normalize as to_length_one
from model_bundle.text.windows import WindowedTexts


class WindowRowCollector(DocumentRowCollector):
    """Collects one vector per window.

    Args:
        windows: the texts.
        dims: dimension by output name.
        with_digests: whether results have the digests of windows.
    """

    def __init__(
        self, windows: WindowedTexts, dims: Mapping[str, int], *, with_digests: bool = False
    ) -> None:
        super().__init__(windows, dims)
        self._windows = windows
        self._with_digests = with_digests

    def finish(self) -> EncodedTexts:
        """Returns the stored rows, window by window."""
        windows = self._windows
        start, end = windows.spans.T
        digests = windows.digests if self._with_digests else ()
        spans = WindowSpans(windows.index, start, end, windows.lengths, digests)
        return _encoded(windows, self._vectors, windows.texts, spans)


class CombinedRowCollector(DocumentRowCollector):
    """Collects one vector per window and combines them to one per text.

    Args:
        windows: the texts.
        dims: dimension by output name.
        combine: see ``combine_windows``.
        normalize: see ``combine_windows``.
    """

    def __init__(
        self, windows: WindowedTexts, dims: Mapping[str, int], combine: Combine, *, normalize: bool
    ) -> None:
        super().__init__(windows, dims)
        self._windows = windows
        self._combine = combine
        self._normalize = normalize

    def finish(self) -> EncodedTexts:
        """Returns one row per text."""
        windows = self._windows
        shares = windows.shares()
        combined = {
            name: combine_windows(vectors, windows.starts, shares, self._combine, normalize=self._normalize)
            for name, vectors in self._vectors.items()
        }
        return _encoded(windows, combined, np.arange(len(windows.num_tokens)), None)


def combine_windows(
    vectors: np.ndarray, starts: np.ndarray, shares: np.ndarray, combine: Combine, *, normalize: bool
) -> np.ndarray:
    """Combines the vectors of each text's windows to one.

    Args:
        vectors: float32[windows, dim], those of a text in succession.
        starts: int[texts + 1], first window of each text.
        shares: float64[windows], the weights of the mean, see ``WindowedTexts.shares``.
        combine: the mean, the element-wise maximum, or as logits the window whose label is most certain.
        normalize: scale vectors combined from several windows to length 1.

    Returns:
        float32[texts, dim]. A text with one window keeps its vector unchanged.
    """
    combined = vectors[starts[:-1]]
    for text in np.flatnonzero(np.diff(starts) > 1):
        own = slice(starts[text], starts[text + 1])
        if combine is Combine.MAX:
            vector = vectors[own].max(axis=0)
        elif combine is Combine.BEST:
            vector = vectors[own][int(scores_of(vectors[own], "softmax").max(axis=1).argmax())]
        else:
            vector = np.average(vectors[own].astype(np.float64), axis=0, weights=shares[own])
        combined[text] = to_length_one(vector[np.newaxis])[0] if normalize else vector
    return np.asarray(combined)


def _encoded(
    windows: WindowedTexts, vectors: dict[str, np.ndarray], row_texts: np.ndarray, spans: WindowSpans | None
) -> EncodedTexts:
    return EncodedTexts(
        vectors=vectors,
        row_texts=row_texts,
        words=None,
        num_tokens=windows.num_tokens,
        num_tokens_untruncated=windows.num_tokens,
        windows=spans,
        num_windows=windows.num_windows,
        window_tokens=windows.num_fed_tokens,
    )

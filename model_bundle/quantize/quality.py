"""What a precision costs: its vectors compared with those of float32."""

from __future__ import annotations

import numpy as np

from model_bundle.bundle.specs import PrecisionQuality

# All pairs of texts are compared: at most this many texts, 2 million pairs.
MAX_COMPARED = 2000


def compare(
    found: np.ndarray, expected: np.ndarray, found_calibration: np.ndarray, calibration: np.ndarray
) -> PrecisionQuality:
    """Measures a precision.

    Args:
        found: float32[texts, dim], vectors of the held-out texts at length 1.
        expected: the same in float32.
        found_calibration: float32[texts, dim], of the texts that scales were chosen with.
        calibration: the same in float32.
    """
    cosines = (found.astype(np.float64) * expected).sum(axis=1)
    return PrecisionQuality(
        num_texts=len(found),
        min_cosine=round(float(np.nan_to_num(cosines, nan=-1.0).min()), 6),
        mean_cosine=round(float(np.nan_to_num(cosines, nan=-1.0).mean()), 6),
        rank_correlation=round(rank_correlation(found, expected), 6),
        calibration_rank_correlation=round(rank_correlation(found_calibration, calibration), 6),
        same_nearest=round(float((nearest(found) == nearest(expected)).mean()), 6),
    )


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Spearman's rank correlation of the similarities of all pairs; 0 where it is undefined."""
    pairs = np.triu_indices(len(one), 1)
    first, second = _ranks((one @ one.T)[pairs]), _ranks((other @ other.T)[pairs])
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.nan_to_num(np.corrcoef(first, second)[0, 1]))


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Returns int[texts]: the position of each text's nearest neighbour, which is not itself."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    places: np.ndarray = similarity.argmax(axis=1)
    return places


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts + 1) / 2)[inverse]
    return ranks

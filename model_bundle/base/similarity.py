"""Compares vectors: cosine, largest difference, and a tolerance for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """When vectors count as the same.

    ``min_cosine``: of each vector. ``max_difference``: of an element, relative to the largest element of
    all expected vectors; storing in 16 bits costs 0.001, another layer differs by more than 0.1.
    """

    min_cosine: float = 0.9999
    max_difference: float = 0.01


@dataclass(frozen=True)
class Distances:
    """``cosine``: the lowest of each text's rows. ``difference``: the largest difference between elements.

    Both float64[texts]; NaN where the shapes differ. ``same``: bool[texts].
    """

    cosine: np.ndarray
    difference: np.ndarray
    same: np.ndarray


def largest_element(expected: Sequence[np.ndarray]) -> float:
    """Returns the largest absolute element, which differences are relative to; never 0."""
    return max((float(np.abs(array).max(initial=0.0)) for array in expected), default=0.0) or 1.0


def distances(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: Tolerance, scale: float
) -> Distances:
    """Compares vectors, or rows of vectors, text by text.

    Args:
        found: float[dim] or float[words, dim] per text.
        expected: the same.
        tolerance: when vectors count as the same.
        scale: see ``largest_element``.
    """
    pairs = [_pair(one, other) for one, other in zip(found, expected, strict=True)]
    cosine = np.array([pair[0] for pair in pairs], dtype=np.float64)
    difference = np.array([pair[1] for pair in pairs], dtype=np.float64)
    same = (cosine >= tolerance.min_cosine) & (difference <= tolerance.max_difference * scale)
    return Distances(cosine, difference, same)


def _pair(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    one, other = np.atleast_2d(one).astype(np.float64), np.atleast_2d(other).astype(np.float64)
    if one.shape != other.shape:
        return np.nan, np.nan
    if not one.size:
        return 1.0, 0.0
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = (one * other).sum(axis=1)
    # Two zero vectors are the same; a single number has no direction, only its size counts.
    cosines = np.where(norms > 0, products / np.maximum(norms, 1e-300), np.abs(one - other).max(axis=1) == 0)
    cosine = 1.0 if one.shape[1] == 1 else float(cosines.min())
    return cosine, float(np.abs(one - other).max())

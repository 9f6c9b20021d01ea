"""Projects vectors to two dimensions and finds nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TINY = 1e-30
# Rows that the axes are computed from: a second or two at 4,096 dimensions.
_AXES_ROWS = 1000


@dataclass(frozen=True)
class Projection:
    """``points``: float64[rows, 2]. ``shares``: share of the variance along each axis."""

    points: np.ndarray
    shares: tuple[float, float]


def project(vectors: np.ndarray) -> Projection:
    """Projects vectors on their first two principal components.

    Args:
        vectors: float[rows, dim], finite.

    Returns:
        Deterministic points: the largest component of each axis is positive.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0, dtype=np.float64)
    some = centred[:: -(-len(centred) // _AXES_ROWS)]
    _, singular, axes = np.linalg.svd(some, full_matrices=False)
    axes = axes[:2].T
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points = np.zeros((len(centred), 2))
    points[:, : axes.shape[1]] = centred @ (axes * signs)
    variance = singular**2 / max(float((singular**2).sum()), _TINY)
    shares = [*map(float, variance[:2]), 0.0, 0.0]
    return Projection(points, (shares[0], shares[1]))


def neighbours_of(vectors: np.ndarray, rows: list[int], number: int) -> list[list[tuple[int, float]]]:
    """Finds the nearest neighbours of some rows by cosine similarity.

    Args:
        vectors: float[rows, dim].
        rows: the rows whose neighbours are wanted.
        number: neighbours per row, not counting itself.

    Returns:
        For each row, pairs of row and cosine, the nearest first.
    """
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
    unit = vectors / norms
    found = []
    for row in rows:
        cosines = unit @ unit[row]
        order = [int(other) for other in np.argsort(-cosines, kind="stable") if other != row]
        found.append([(other, float(cosines[other])) for other in order[:number]])
    return found


def spread_rows(points: np.ndarray, number: int) -> list[int]:
    """Picks rows far from each other: the most central one, then repeatedly the farthest from those picked.

    Args:
        points: float[rows, 2].
        number: maximum number of rows.
    """
    if not len(points):
        return []
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(number, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen

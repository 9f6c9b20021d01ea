"""Three quality measures of vectors on labelled texts, in pure NumPy."""

from __future__ import annotations

import numpy as np

# Newton's method converges quadratically, so these are more than enough.
_NEWTON_STEPS = 25
_NEIGHBOUR_ROWS = 1024


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns the ranks of values, float64[values] from 0; equal values share their mean rank.

    >>> ranks(np.array([0.5, 0.1, 0.5]))
    array([1.5, 0. , 1.5])
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - counts + last - 1) / 2)[places]


def spearman(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the rank correlation of two sequences, from -1 to 1.

    Source: Spearman 1904, as the correlation of ranks.
    """
    return float(np.corrcoef(ranks(found), ranks(expected))[0, 1])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns float32[texts, dim], normalised; zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def neighbour_accuracy(vectors: np.ndarray, classes: np.ndarray, neighbours: int = 5) -> float:
    """Returns the accuracy of a nearest-neighbour classifier by cosine, leaving the text itself out.

    Args:
        vectors: float[texts, dim].
        classes: int[texts], from 0.
        neighbours: number of votes. Ties go to the class with the greater sum of cosines.
    """
    vectors = unit(vectors)
    num_classes = int(classes.max()) + 1
    right = 0
    for start in range(0, len(vectors), _NEIGHBOUR_ROWS):
        cosines = vectors[start : start + _NEIGHBOUR_ROWS] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        nearest = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
        # A vote counts 1 and a cosine far less, so that cosines only break ties.
        votes = np.zeros((len(cosines), num_classes))
        weights = 1.0 + 1e-3 * np.take_along_axis(cosines, nearest, axis=1)
        np.add.at(votes, (rows[:, np.newaxis], classes[nearest]), weights)
        right += int((votes.argmax(axis=1) == classes[start : start + _NEIGHBOUR_ROWS]).sum())
    return right / len(vectors)


def logistic_accuracy(
    train: np.ndarray, train_classes: np.ndarray, test: np.ndarray, test_classes: np.ndarray
) -> float:
    """Returns the test accuracy of a logistic regression on the vectors.

    Args:
        train, test: float[texts, dim]; normalised here.
        train_classes, test_classes: int[texts] of 0 and 1.
    """
    inputs = _with_one(unit(train))
    weights = _fit_logistic(inputs, train_classes.astype(np.float64))
    return float(((_with_one(unit(test)) @ weights > 0) == (test_classes == 1)).mean())


def _fit_logistic(inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Minimises the summed cross entropy plus half the squared length of the weights, by Newton's method."""
    weights = np.zeros(inputs.shape[1])
    penalty = np.ones_like(weights)
    penalty[-1] = 1e-6  # the constant is free
    for _ in range(_NEWTON_STEPS):
        likely = 1.0 / (1.0 + np.exp(-(inputs @ weights)))
        gradient = inputs.T @ (likely - classes) + penalty * weights
        curved = (inputs * (likely * (1.0 - likely))[:, np.newaxis]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curved, gradient)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def _with_one(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([vectors.astype(np.float64), np.ones((len(vectors), 1))], axis=1)

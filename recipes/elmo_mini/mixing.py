"""Chooses the degree of whitening and the layer mix on held-out texts."""

from __future__ import annotations

import itertools

import numpy as np

from recipes.elmo_mini.shape import SEED

# 0 keeps words whitened, 1 restores the variances after training.
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
# Pairs per tenth of the teacher's cosines; without this, almost all pairs would be unrelated.
_PAIRS = 300


def choose(
    layers: np.ndarray, scales: np.ndarray, teacher: np.ndarray
) -> tuple[float, tuple[float, ...], float]:
    """Finds the power of the scales and the mix whose cosines between texts are closest to the teacher's.

    Args:
        layers: float32[3, texts, 2 * projection_dim], the mean of each layer over the words of each text;
            words are whitened.
        scales: float64[projection_dim] of ``whitened``.
        teacher: float32[texts, 384], of length 1.

    Returns:
        Power, share of each layer, and Pearson's correlation of the cosines.
    """
    one, two, wanted = pairs_of(teacher)
    found = []
    for power, *contexts in itertools.product(POWERS, SHARES, SHARES):
        if sum(contexts) > 1.0:
            continue
        shares = (1.0 - sum(contexts), *contexts)
        words = layers[0] * np.tile(even(scales, power), 2)
        mixed = np.tensordot(shares, np.stack([words, *layers[1:]]), axes=1)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        cosines = (mixed[one] * mixed[two]).sum(axis=1)
        found.append((float(np.corrcoef(cosines, wanted)[0, 1]), power, shares))
    likeness, power, shares = max(found)
    return power, shares, likeness


def even(scales: np.ndarray, power: float) -> np.ndarray:
    """Returns the scales to a power, normalised to a mean square of 1."""
    powers = scales**power
    return np.asarray(powers / np.sqrt(np.mean(powers**2)))


def pairs_of(teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples pairs of texts from each tenth of the cosines from 0 to 1; returns them and their cosines."""
    one, two = np.triu_indices(len(teacher), 1)
    cosines = (teacher @ teacher.T)[one, two]
    random, chosen = np.random.default_rng(SEED), []
    for tenth in range(10):
        some = np.flatnonzero((cosines >= tenth / 10) & (cosines < (tenth + 1) / 10))
        chosen.append(random.permutation(some)[:_PAIRS])
    which = np.concatenate(chosen)
    return one[which], two[which], cosines[which]

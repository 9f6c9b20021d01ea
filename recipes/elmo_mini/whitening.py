"""Closed-form stages: whitens word vectors, or rescales them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_bundle.builders.graphs.elmo_options import DIRECTIONS, cell_prefix

# Lower bound on a direction's variance, relative to the largest one, so that noise is not amplified.
_SMALLEST = 1e-3


def whitened(
    weights: Mapping[str, np.ndarray], vectors: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Whitens the word vectors and removes their mean, without changing the layers' outputs.

    Words that the language model reads so are apart, the frequent ones too, which say little to the
    teacher.

    Args:
        weights: float32 arrays by the names of ``weight_shapes``, which project words.
        vectors: float32[words, projection_dim] of running words, as often as they occur.

    Returns:
        The weights, and float64[projection_dim], how much words differed in each direction: their mean
        square is 1.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(np.cov((vectors - mean).T.astype(np.float64)))
    scales = np.sqrt(variances + _SMALLEST * variances[-1])
    return moved(weights, mean, axes, 1.0 / scales), scales / np.sqrt(np.mean(scales**2))


def stretched(weights: Mapping[str, np.ndarray], scales: np.ndarray) -> dict[str, np.ndarray]:
    """Scales the word vectors without changing the layers' outputs."""
    return moved(weights, np.zeros(len(scales)), np.eye(len(scales)), scales)


def moved(
    weights: Mapping[str, np.ndarray], mean: np.ndarray, axes: np.ndarray, scales: np.ndarray
) -> dict[str, np.ndarray]:
    """Maps each word to ``(word - mean) @ axes * scales``, which the first layer's kernels invert."""
    found = {name: value.astype(np.float64) for name, value in weights.items()}
    found["CNN_proj/W_proj"] = found["CNN_proj/W_proj"] @ axes * scales
    found["CNN_proj/b_proj"] = (found["CNN_proj/b_proj"] - mean) @ axes * scales
    dim = len(mean)
    for side in range(len(DIRECTIONS)):
        cell = cell_prefix(side, 0)
        inputs = found[f"{cell}/W_0"][:dim]
        found[f"{cell}/B"] = found[f"{cell}/B"] + mean @ inputs
        undone = (axes.T @ inputs) / scales[:, np.newaxis]
        found[f"{cell}/W_0"] = np.concatenate([undone, found[f"{cell}/W_0"][dim:]])
    return {name: value.astype(np.float32) for name, value in found.items()}

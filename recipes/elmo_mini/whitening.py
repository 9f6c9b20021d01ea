"""Last stage, without steps: word vectors that differ as much in every direction, and the mix of layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from model_bundle.graphs.elmo_options import DIRECTIONS, cell_prefix

# Directions in which words hardly differ are left small, as a part of the largest variance.
_SMALLEST = 1e-4
_SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)


def whitened(weights: Mapping[str, np.ndarray], vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Makes all directions of the word vectors equal, without their mean; the layers give what they gave.

    What frequent words have in common is what directions of great variance hold: after this, a text's mean
    tells of its rare words. The first layer's kernels undo it, so that the language model stays as it is.

    Args:
        weights: float32 arrays by the names of ``weight_shapes``, which project words.
        vectors: float32[words, projection_dim] of running words, as often as they occur.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(np.cov((vectors - mean).T.astype(np.float64)))
    scales = np.sqrt(variances + _SMALLEST * variances[-1])
    found = {name: value.astype(np.float64) for name, value in weights.items()}
    found["CNN_proj/W_proj"] = found["CNN_proj/W_proj"] @ axes / scales
    found["CNN_proj/b_proj"] = (found["CNN_proj/b_proj"] - mean) @ axes / scales
    dim = len(mean)
    for side in range(len(DIRECTIONS)):
        cell = cell_prefix(side, 0)
        inputs = found[f"{cell}/W_0"][:dim]
        found[f"{cell}/B"] = found[f"{cell}/B"] + mean @ inputs
        found[f"{cell}/W_0"] = np.concatenate(
            [scales[:, np.newaxis] * (axes.T @ inputs), found[f"{cell}/W_0"][dim:]]
        )
    return {name: value.astype(np.float32) for name, value in found.items()}


def choose_mix(layers: np.ndarray, teacher: np.ndarray) -> tuple[float, float, float]:
    """Finds the mix whose cosines between texts are most like the teacher's.

    Args:
        layers: float32[3, texts, dim], the mean of each layer over the words of each text.
        teacher: float32[texts, 384], of length 1.
    """
    pairs = np.triu_indices(len(teacher), 1)
    wanted = (teacher @ teacher.T)[pairs]

    def likeness(shares: tuple[float, float, float]) -> float:
        mixed = np.tensordot(shares, layers, axes=1)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        return float(np.corrcoef((mixed @ mixed.T)[pairs], wanted)[0, 1])

    tried = [(1.0 - one - two, one, two) for one, two in itertools.product(_SHARES, _SHARES)]
    return max(tried, key=likeness)

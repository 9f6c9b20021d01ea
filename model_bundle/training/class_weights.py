"""What a row counts by its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from model_bundle.errors import SettingsError


def row_weights(classes: np.ndarray, labels: Sequence[str], wanted: str | Mapping[str, float]) -> np.ndarray:
    """Returns float32[rows]: what each row counts.

    Raises:
        SettingsError: a label is not known.
    """
    factors = np.ones(len(labels))
    if wanted == "balanced":
        counts = np.bincount(classes, minlength=len(labels))
        factors = len(classes) / (len(labels) * np.maximum(counts, 1))
    elif not isinstance(wanted, str):
        unknown = sorted(set(wanted) - set(labels))
        if unknown:
            raise SettingsError(
                f"--class_weights: there is no label {unknown[0]!r}; those there are: {', '.join(labels)}."
            )
        factors = np.array([wanted.get(label, 1.0) for label in labels])
    return np.asarray(factors[classes], dtype=np.float32)

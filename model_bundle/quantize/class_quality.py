"""What a precision costs a classifier: its scores and labels compared with those of float32."""

from __future__ import annotations

import numpy as np

from model_bundle.bundle.specs import ClassQuality
from model_bundle.inference.scores import DEFAULT_THRESHOLD


def compare_classes(
    found: np.ndarray, expected: np.ndarray, calibration: tuple[np.ndarray, np.ndarray], *, multi_label: bool
) -> ClassQuality:
    """Measures a precision.

    Args:
        found: float32[rows, labels], scores of the held-out texts.
        expected: the same in float32.
        calibration: both, of the texts that scales were chosen with.
        multi_label: whether each score decides alone.
    """

    def same(one: np.ndarray, other: np.ndarray) -> float:
        if multi_label:
            equal = ((one >= DEFAULT_THRESHOLD) == (other >= DEFAULT_THRESHOLD)).all(axis=1)
        else:
            equal = one.argmax(axis=1) == other.argmax(axis=1)
        return round(float(equal.mean()), 6)

    return ClassQuality(
        num_rows=len(found),
        same_labels=same(found, expected),
        calibration_same_labels=same(*calibration),
        max_difference=round(float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()), 6),
    )

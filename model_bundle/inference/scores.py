"""Logits to scores, and scores to labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import numpy as np

from model_bundle.bundle.manifest import BundleManifest
from model_bundle.errors import BundleFormatError

ScoreFunction = Literal["as_is", "softmax", "sigmoid"]
# Where a text is as likely as not to have a label.
DEFAULT_THRESHOLD = 0.5


class LabelMode(StrEnum):
    """What scores are for: one label holds, several may, or they are quantities and no label is chosen."""

    SINGLE = "one"
    MULTI = "several"
    REGRESSION = "none"


def label_mode(manifest: BundleManifest) -> LabelMode:
    """Tells what a classifier's scores are for; a single score without alternatives is a quantity."""
    if manifest.regression:
        return LabelMode.REGRESSION
    if manifest.multi_label:
        return LabelMode.MULTI
    return LabelMode.SINGLE if len(class_names(manifest)) > 1 else LabelMode.REGRESSION


def class_names(manifest: BundleManifest) -> tuple[str, ...]:
    """Names the classes of a classifier, in the order of its scores; numbered where it knows no names.

    Raises:
        BundleFormatError: there are other names than scores.
    """
    dim = manifest.outputs[manifest.default_output].dim or 0
    names = manifest.labels or tuple(f"LABEL_{index}" for index in range(dim))
    if len(names) != dim and not _is_yes_or_no(manifest):
        raise BundleFormatError(
            f"The bundle {manifest.name} names {len(names)} labels, its output has {dim} scores. Build it "
            "again with as many labels."
        )
    return names


def class_logits(output: np.ndarray, num_labels: int, function: ScoreFunction) -> np.ndarray:
    """Returns one number a label: float32[rows, labels] of float32[rows, dim].

    These are the same, but for a model with one output for two labels: the second's score is what it gives,
    the first's the rest.
    """
    if output.shape[1] == num_labels:
        return output
    rest = {"as_is": 1 - output, "sigmoid": -output, "softmax": np.zeros_like(output)}[function]
    return np.concatenate([rest, output], axis=1)


def _is_yes_or_no(manifest: BundleManifest) -> bool:
    one = manifest.outputs[manifest.default_output].dim == 1
    return one and len(manifest.labels) == 2 and not (manifest.multi_label or manifest.regression)


def scores_of(logits: np.ndarray, function: ScoreFunction) -> np.ndarray:
    """Makes scores of what a classifier gives.

    Args:
        logits: float32[rows, labels], finite.
        function: ``softmax`` over the labels, ``sigmoid`` of each, or ``as_is``.

    Returns:
        float32[rows, labels].
    """
    exact = logits.astype(np.float64)
    if function == "softmax":
        powers = np.exp(exact - exact.max(axis=1, keepdims=True, initial=-np.inf))
        exact = powers / powers.sum(axis=1, keepdims=True)
    elif function == "sigmoid":
        # The exponent is never above 0, so that nothing overflows.
        small = np.exp(-np.abs(exact))
        exact = np.where(exact >= 0, 1.0, small) / (1.0 + small)
    return np.asarray(exact, dtype=np.float32)


def best_first(logits: np.ndarray, count: int) -> np.ndarray:
    """Returns the numbers of the best labels: int64[rows, count]; of equal ones the first stands first.

    By logits, since scores of float32 may be equal where logits are not.
    """
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]

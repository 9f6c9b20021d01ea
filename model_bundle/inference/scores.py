"""Converts logits to scores, and scores to labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import numpy as np

from model_bundle.bundle.manifest import BundleManifest
from model_bundle.errors import BundleFormatError

ScoreFunction = Literal["as_is", "softmax", "sigmoid"]
# The score at which a text is as likely as not to have a label.
DEFAULT_THRESHOLD = 0.5
_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")


class LabelMode(StrEnum):
    """How scores select labels: exactly one, any number, or none because they are quantities."""

    SINGLE = "one"
    MULTI = "several"
    REGRESSION = "none"


def label_mode(manifest: BundleManifest) -> LabelMode:
    """Returns how scores select labels; a single score is a quantity."""
    if manifest.regression:
        return LabelMode.REGRESSION
    if manifest.multi_label:
        return LabelMode.MULTI
    return LabelMode.SINGLE if len(class_names(manifest)) > 1 else LabelMode.REGRESSION


def class_names(manifest: BundleManifest) -> tuple[str, ...]:
    """Returns the class names in the order of the scores; ``LABEL_0``, … if the bundle has none.

    Raises:
        BundleFormatError: the number of names differs from the number of scores.
    """
    dim = manifest.outputs[manifest.default_output].dim or 0
    names = manifest.labels or tuple(f"LABEL_{index}" for index in range(dim))
    if len(names) != dim and not _is_yes_or_no(manifest):
        raise BundleFormatError(
            f"The bundle {manifest.name} has {len(names)} labels, but its output has {dim} scores. Rebuild "
            "it with as many labels as scores."
        )
    return names


def labels_by_spelling(names: Sequence[str]) -> dict[str, str]:
    """Returns what a true label may be written as: the name, or its position from 0 as text.

    Names that are numbers themselves, such as stars from 1 to 5, are names only: "1" cannot be both.

    >>> labels_by_spelling(["bad", "good"]), labels_by_spelling(["1", "2"])
    ({'bad': 'bad', 'good': 'good', '0': 'bad', '1': 'good'}, {'1': '1', '2': '2'})
    """
    found = {name: name for name in names}
    if any(_NUMBER.fullmatch(name) for name in names):
        return found
    return found | {str(index): name for index, name in enumerate(names)}


def class_logits(output: np.ndarray, num_labels: int, function: ScoreFunction) -> np.ndarray:
    """Returns one logit per label: float32[rows, labels] from float32[rows, dim].

    They are the same unless the model has one output for two labels: it is the second label's, and the first
    gets the complement.
    """
    if output.shape[1] == num_labels:
        return output
    rest = {"as_is": 1 - output, "sigmoid": -output, "softmax": np.zeros_like(output)}[function]
    return np.concatenate([rest, output], axis=1)


def _is_yes_or_no(manifest: BundleManifest) -> bool:
    one = manifest.outputs[manifest.default_output].dim == 1
    return one and len(manifest.labels) == 2 and not (manifest.multi_label or manifest.regression)


def scores_of(logits: np.ndarray, function: ScoreFunction) -> np.ndarray:
    """Computes scores from logits.

    Args:
        logits: float32[rows, labels], finite.
        function: ``softmax`` over the labels, ``sigmoid`` per label, or ``as_is``.

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
    """Returns the indices of the best labels: int64[rows, count]; ties keep the order of labels.

    By logits, since float32 scores may be equal where logits differ.
    """
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]

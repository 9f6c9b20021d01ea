"""Compares the labels and scores of a classifier with reference labels and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import Rows
from model_bundle.compare.expected import Expected
from model_bundle.errors import SettingsError
from model_bundle.inference.scores import (
    DEFAULT_THRESHOLD,
    LabelMode,
    class_names,
    label_mode,
    labels_by_spelling,
)

# A score that differs by more than this counts as another one: float32 on another machine differs by 1e-6.
DEFAULT_MAX_SCORE_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class ExpectedClasses:
    """Reference labels and scores, one item per text.

    ``scores``: float64[rows, labels] with the bundle's labels in their order, NaN where the reference has no
    score; None without scores. ``labels``: the labels of each row; empty tuples for quantities. A text
    classifier has one row per text, a word classifier one per word.
    """

    scores: list[np.ndarray] | None
    labels: list[list[tuple[str, ...]]]

    def searchable(self, rows: Rows) -> list[np.ndarray]:
        """Returns float64[labels] or float64[words, labels] per text; nothing unless all scores are known."""
        if self.scores is None or any(np.isnan(array).any() for array in self.scores):
            return []
        return self.scores if rows is Rows.WORD else [array[0] for array in self.scores]


@dataclass(frozen=True)
class ClassAgreement:
    """The labels and scores of texts beside the reference.

    ``names``: the labels. ``difference``: float64[texts], the largest of a text's scores; NaN if the
    reference has none. ``is_same_label``: bool[texts]. ``found``, ``expected``: their labels, for messages.
    """

    names: tuple[str, ...]
    has_labels: bool
    max_difference: float
    difference: np.ndarray
    is_same_label: np.ndarray
    found: list[str]
    expected: list[str]

    @property
    def same(self) -> np.ndarray:
        """bool[texts]: the label is the same, and no score differs by more than the limit."""
        is_near = np.isnan(self.difference) | (self.difference <= self.max_difference)
        return np.asarray(self.is_same_label & is_near)


def expected_classes(old: Expected, manifest: BundleManifest) -> ExpectedClasses:
    """Assigns reference numbers and labels to a classifier's labels.

    One number per text is the score of the second of two labels, as a sigmoid writes it; whole numbers, where
    the bundle has labels, are positions of labels.

    Raises:
        SettingsError: they do not fit the bundle's labels; the message says what was expected.
    """
    names, mode = class_names(manifest), label_mode(manifest)
    scores = None if old.vectors is None else [_scores(np.atleast_2d(a), old, manifest) for a in old.vectors]
    if mode is LabelMode.REGRESSION:
        if scores is None:
            scores = [np.array([[_quantity(label) for label in row] for row in rows]) for rows in _given(old)]
        return ExpectedClasses(scores, [[()] * len(array) for array in scores])
    if old.labels is not None:
        known = labels_by_spelling(names)
        labels = [
            [tuple(_known(label, known, names) for label in row) for row in rows] for rows in _given(old)
        ]
    elif scores is not None:
        limit = DEFAULT_THRESHOLD if old.threshold is None else old.threshold
        labels = [selected(array, names, mode, limit) for array in scores]
    return ExpectedClasses(scores, labels)


def _given(old: Expected) -> list[list[tuple[str, ...]]]:
    assert old.labels is not None  # Expected has vectors or labels
    return old.labels


def _known(label: str, known: dict[str, str], names: tuple[str, ...]) -> str:
    if label not in known:
        position = ", or its position from 0" if len(known) > len(names) else ""
        raise SettingsError(
            f"--expected has the label {label!r}; expected one of the bundle's labels "
            f"{_listed(names)}{position}."
        )
    return known[label]


def _quantity(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        raise SettingsError(
            f"--expected has the label {label!r}, but the bundle computes a quantity: expected a number."
        ) from None


def _scores(array: np.ndarray, old: Expected, manifest: BundleManifest) -> np.ndarray:
    """Returns float64[rows, labels] from float64[rows, numbers]."""
    names, order = class_names(manifest), old.label_order
    if not old.is_partial and not np.isfinite(array).all():
        raise SettingsError(
            "--expected has a score that is missing or not finite; expected a number per label."
        )
    if order is not None and len(order) == array.shape[1] and sorted(order) == sorted(names):
        return array[:, [order.index(name) for name in names]]
    if array.shape[1] == len(names):
        return array
    if array.shape[1] == 1 and len(names) == 2 and label_mode(manifest) is LabelMode.SINGLE:
        return np.hstack([1 - array, array])
    raise SettingsError(
        f"--expected has {array.shape[1]} numbers per text; expected {widths(manifest)}."
        if array.shape[1] != 1
        else f"--expected has one number per text; expected {widths(manifest)}."
    )


def widths(manifest: BundleManifest) -> str:
    """Describes what the reference scores of a classifier may look like."""
    names = class_names(manifest)
    if label_mode(manifest) is LabelMode.REGRESSION and len(names) == 1:
        return "one number, the bundle's quantity"
    parts = [f"{len(names)} scores, of {_listed(names)}"]
    if len(names) == 2 and label_mode(manifest) is LabelMode.SINGLE:
        parts.append(f"one, the score of {names[1]}")
    if label_mode(manifest) is not LabelMode.REGRESSION:
        parts.append("a label")
    return " or ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" * (len(names) > 10))


def selected(
    scores: np.ndarray, names: tuple[str, ...], mode: LabelMode, threshold: float
) -> list[tuple[str, ...]]:
    """Returns the labels that scores select, per row; the first of equal scores.

    Args:
        scores: float[rows, labels]; NaN is below every score.
        names: of the labels.
        mode: none for quantities, one, or those that reach the threshold.
        threshold: for several labels.
    """
    if mode is LabelMode.REGRESSION:
        return [()] * len(scores)
    if mode is LabelMode.SINGLE:
        known = np.where(np.isnan(scores), -np.inf, scores)
        return [(names[index],) for index in known.argmax(axis=1)]
    return [
        tuple(name for name, score in zip(names, row, strict=True) if score >= threshold) for row in scores
    ]


def agreement(
    found: Sequence[np.ndarray],
    expected: ExpectedClasses,
    manifest: BundleManifest,
    threshold: float | None,
    max_difference: float,
) -> ClassAgreement:
    """Compares scores and labels text by text.

    Args:
        found: float[labels] or float[words, labels] per text.
        expected: the reference, one item per text.
        manifest: the bundle's.
        threshold: at which the reference assigned labels, if several are possible; None means 0.5.
        max_difference: the largest difference of a score that counts as the same.
    """
    names, mode = class_names(manifest), label_mode(manifest)
    rows = [np.atleast_2d(array).astype(np.float64) for array in found]
    limit = DEFAULT_THRESHOLD if threshold is None else threshold
    labels = [selected(array, names, mode, limit) for array in rows]
    old: list[np.ndarray | None] = [*expected.scores] if expected.scores else [None for _ in rows]
    return ClassAgreement(
        names=names,
        has_labels=mode is not LabelMode.REGRESSION,
        max_difference=max_difference,
        difference=np.array([_difference(one, other) for one, other in zip(rows, old, strict=True)]),
        is_same_label=np.array(
            [
                [*map(set, one)] == [*map(set, other)]
                for one, other in zip(labels, expected.labels, strict=True)
            ]
        ),
        found=[_named(one) for one in labels],
        expected=[_named(one) for one in expected.labels],
    )


def _difference(one: np.ndarray, other: np.ndarray | None) -> float:
    """Returns the largest difference; NaN without a reference, infinity if the number of words differs."""
    if other is None:
        return np.nan
    if one.shape != other.shape or not np.isfinite(one).all():
        return np.inf
    known = ~np.isnan(other)
    return float(np.abs(one - other)[known].max(initial=0.0))


def _named(rows: Sequence[tuple[str, ...]]) -> str:
    return " ".join("+".join(row) or "none" for row in rows)

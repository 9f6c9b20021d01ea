"""Splits rows into training and held-out ones, and determines labels and class weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_bundle.errors import SettingsError
from model_bundle.training.examples import Examples, read_examples
from model_bundle.training.options import DataOptions


@dataclass(frozen=True)
class TrainingData:
    """``train`` and ``held_out`` rows; ``labels`` in the order of the model's outputs."""

    train: Examples
    held_out: Examples
    labels: tuple[str, ...]

    def classes(self, examples: Examples) -> np.ndarray:
        """Returns the index of each row's label: int32[rows]."""
        numbers = {label: index for index, label in enumerate(self.labels)}
        return np.array([numbers[label] for label in examples.labels], dtype=np.int32)


def read_data(options: DataOptions, seed: int) -> TrainingData:
    """Reads the rows and holds some out: the dev file, or the same share of each label.

    Raises:
        SettingsError: see ``read_examples``; there is only one label, a label has too few rows, or the dev
            file has a label that the training rows lack.
    """
    examples = read_examples(options.data, options)
    labels = _labels(examples)
    if options.dev is not None:
        held_out = read_examples(options.dev, options)
        _check_known(held_out, labels)
        return TrainingData(examples, held_out, labels)
    kept, left = _split(examples, labels, options.held_out, seed)
    return TrainingData(examples.take(kept), examples.take(left), labels)


def _labels(examples: Examples) -> tuple[str, ...]:
    """Returns the labels, sorted as integers if all are, else as text."""
    found = sorted(set(examples.labels))
    if len(found) < 2:
        raise SettingsError(
            f"{examples.path}: every row has the label {found[0]!r}, from row {examples.rows[0]} to row "
            f"{examples.rows[-1]}; there is nothing to distinguish. Name the right "
            "--label_column, or add rows."
        )
    if all(label.isascii() and label.isdigit() for label in found):
        found.sort(key=lambda label: (int(label), label))
    return tuple(found)


def _check_known(held_out: Examples, labels: tuple[str, ...]) -> None:
    known = set(labels)
    unknown = [
        (row, label) for row, label in zip(held_out.rows, held_out.labels, strict=True) if label not in known
    ]
    if unknown:
        row, label = unknown[0]
        raise SettingsError(
            f"{held_out.path}, row {row}: the label {label!r} is not among the training labels: "
            f"{', '.join(labels[:20])}. {len(unknown)} rows have such labels; fix them, or "
            "add rows to --data."
        )


def _split(
    examples: Examples, labels: tuple[str, ...], share: float, seed: int
) -> tuple[list[int], list[int]]:
    random = np.random.default_rng(seed)
    kept: list[int] = []
    left: list[int] = []
    for label in labels:
        places = [place for place, one in enumerate(examples.labels) if one == label]
        if len(places) < 2:
            raise SettingsError(
                f"{examples.path}, row {examples.rows[places[0]]}: it is the only one with the label "
                f"{label!r}; training and held-out rows need one each. Add rows, or name held-out ones: "
                "--dev FILE"
            )
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        order = random.permutation(len(places))
        left += [places[i] for i in order[:count]]
        kept += [places[i] for i in order[count:]]
    return sorted(kept), sorted(left)


def row_weights(classes: np.ndarray, labels: Sequence[str], wanted: str | Mapping[str, float]) -> np.ndarray:
    """Returns float32[rows]: the weight of each row, by its label.

    Raises:
        SettingsError: a label is unknown.
    """
    factors = np.ones(len(labels))
    if wanted == "balanced":
        counts = np.bincount(classes, minlength=len(labels))
        factors = len(classes) / (len(labels) * np.maximum(counts, 1))
    elif not isinstance(wanted, str):
        unknown = sorted(set(wanted) - set(labels))
        if unknown:
            raise SettingsError(
                f"--class_weights: there is no label {unknown[0]!r}; the labels are: {', '.join(labels)}."
            )
        factors = np.array([wanted.get(label, 1.0) for label in labels])
    return np.asarray(factors[classes], dtype=np.float32)

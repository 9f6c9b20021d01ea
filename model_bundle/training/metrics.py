"""How good predictions are: counts, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """``confusion``: int64[labels, labels], rows are the true labels, columns what was predicted."""

    labels: tuple[str, ...]
    confusion: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> Metrics:
        """Counts int[rows] of true against int[rows] of predicted labels."""
        confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(confusion, (true, predicted), 1)
        return cls(tuple(labels), confusion)

    @property
    def accuracy(self) -> float:
        """Share of rows that are right."""
        return float(np.trace(self.confusion) / max(self.confusion.sum(), 1))

    @property
    def precision(self) -> np.ndarray:
        """float64[labels]: of those predicted, how many are right; 0 where none was."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """float64[labels]: of those that are, how many were found; 0 where there are none."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def f1(self) -> np.ndarray:
        """float64[labels]: the harmonic mean of precision and recall."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def macro_f1(self) -> float:
        """The mean over labels that are there or were predicted."""
        seen = (self.confusion.sum(axis=0) + self.confusion.sum(axis=1)) > 0
        return float(self.f1[seen].mean()) if seen.any() else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain JSON data."""
        columns = zip(self.precision, self.recall, self.f1, self.confusion.sum(axis=1), strict=True)
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "num_rows": int(self.confusion.sum()),
            "labels": [
                {
                    "label": label,
                    "precision": float(p),
                    "recall": float(r),
                    "f1": float(f),
                    "num_rows": int(n),
                }
                for label, (p, r, f, n) in zip(self.labels, columns, strict=True)
            ],
            "confusion": self.confusion.tolist(),
        }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))

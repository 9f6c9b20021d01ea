"""Metrics of a classifier, and the report of a training: one self-contained HTML page."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "training"
_CELL, _LABEL_WIDTH = 64, 150
# More labels than this make an unreadable picture; the table below it has all of them.
_MAX_DRAWN = 24
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:right;"
    "border-bottom:1px solid #d8dee4}td:first-child,th:first-child{text-align:left}"
    "svg text{font:13px system-ui,sans-serif}"
)


@dataclass(frozen=True)
class Metrics:
    """``confusion``: int64[labels, labels], one row per true label, one column per predicted label."""

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
        """The share of correct rows."""
        return float(np.trace(self.confusion) / max(self.confusion.sum(), 1))

    @property
    def precision(self) -> np.ndarray:
        """float64[labels]: the share of correct predictions; 0 if there are none."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """float64[labels]: the share of rows with the label that were found; 0 if there are none."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def f1(self) -> np.ndarray:
        """float64[labels]: the harmonic mean of precision and recall."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def macro_f1(self) -> float:
        """The mean F1 over labels that occur or were predicted."""
        seen = (self.confusion.sum(axis=0) + self.confusion.sum(axis=1)) > 0
        return float(self.f1[seen].mean()) if seen.any() else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns all metrics as plain JSON data."""
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


@dataclass(frozen=True)
class Evaluation:
    """The held-out rows: ``rows`` are their numbers in ``where``; ``true`` and ``scores`` are per row."""

    where: str
    rows: Sequence[int]
    true: np.ndarray
    scores: np.ndarray
    metrics: Metrics

    @property
    def predicted(self) -> np.ndarray:
        """int64[rows]; the first label in case of a tie."""
        return np.asarray(self.scores.argmax(axis=1))


def write_training(
    folder: Path, judged: Evaluation, settings: Mapping[str, Any], history: Sequence[Mapping[str, float]]
) -> None:
    """Writes ``metrics.json``, ``predictions.csv`` and ``report.html``, without the text of any row."""
    target = folder / FOLDER
    target.mkdir()
    metrics = {**judged.metrics.to_json(), "held_out": judged.where, "epochs": list(history), **settings}
    text = json.dumps(metrics, indent=2, sort_keys=True, ensure_ascii=False)
    (target / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (target / "predictions.csv").write_text(_predictions(judged), encoding="utf-8")
    (target / "report.html").write_text(_page(judged, settings, history), encoding="utf-8")


def _predictions(judged: Evaluation) -> str:
    labels = judged.metrics.labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "label", "predicted", "score"])
    for row, true, found, scores in zip(
        judged.rows, judged.true, judged.predicted, judged.scores, strict=True
    ):
        writer.writerow([row, labels[true], labels[found], f"{scores[found]:.6f}"])
    return text.getvalue()


def _page(judged: Evaluation, settings: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    metrics = judged.metrics
    head = f"{metrics.accuracy:.1%} of {metrics.confusion.sum():,} held-out rows are correct"
    parts = [
        f"<h1>{head}</h1><p>Macro F1 {metrics.macro_f1:.4f}. Held out: {html.escape(judged.where)}.</p>",
        "<h2>Confusion matrix</h2><p>Rows are true labels, columns are predicted labels.</p>",
        _picture(metrics) if len(metrics.labels) <= _MAX_DRAWN else _mistakes(metrics),
        "<h2>Each label</h2>",
        _table(
            ["label", "precision", "recall", "F1", "rows"],
            [
                [
                    one["label"],
                    *(f"{one[key]:.3f}" for key in ("precision", "recall", "f1")),
                    f"{one['num_rows']:,}",
                ]
                for one in metrics.to_json()["labels"]
            ],
        ),
        "<h2>Epochs</h2>",
        _table(
            ["epoch", "training loss", "held-out loss", "held-out accuracy"],
            [
                [
                    str(number),
                    *(f"{one[key]:.4f}" for key in ("train_loss", "held_out_loss")),
                    f"{one['held_out_accuracy']:.1%}",
                ]
                for number, one in enumerate(history, 1)
            ],
        ),
        "<h2>Settings</h2>",
        _table(["", ""], [[key, json.dumps(value, ensure_ascii=False)] for key, value in settings.items()]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Training</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _picture(metrics: Metrics) -> str:
    """Draws the confusion matrix; darker cells have a larger share of their true label."""
    size = len(metrics.labels)
    width, height = _LABEL_WIDTH + size * _CELL, _LABEL_WIDTH + size * _CELL
    shares = metrics.confusion / np.maximum(metrics.confusion.sum(axis=1, keepdims=True), 1)
    parts = [f'<svg role="img" aria-label="confusion matrix" width="{width}" height="{height}">']
    for index, label in enumerate(metrics.labels):
        middle = _LABEL_WIDTH + index * _CELL + _CELL / 2
        short = html.escape(label if len(label) <= 18 else f"{label[:17]}…")
        parts.append(f'<text x="{_LABEL_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{short}</text>')
        turned = f'transform="rotate(-45 {middle} {_LABEL_WIDTH - 8})"'
        parts.append(f'<text x="{middle}" y="{_LABEL_WIDTH - 8}" {turned}>{short}</text>')
    for true in range(size):
        for found in range(size):
            x, y = _LABEL_WIDTH + found * _CELL, _LABEL_WIDTH + true * _CELL
            share = float(shares[true, found])
            ink = "#fff" if share > 0.5 else "#1b1f24"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="#0a5bb5" '
                f'fill-opacity="{share:.3f}" stroke="#d8dee4"/>'
                f'<text x="{x + _CELL / 2}" y="{y + _CELL / 2 + 4}" text-anchor="middle" fill="{ink}">'
                f"{metrics.confusion[true, found]:,}</text>"
            )
    return "".join(parts) + "</svg>"


def _mistakes(metrics: Metrics) -> str:
    """Lists the most frequent mistakes, for too many labels to draw."""
    wrong = metrics.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_DRAWN]
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    rows = [
        [metrics.labels[int(true)], metrics.labels[int(found)], f"{wrong[true, found]:,}"]
        for true, found in pairs
        if wrong[true, found]
    ]
    return _table(["true label", "predicted", "rows"], rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))

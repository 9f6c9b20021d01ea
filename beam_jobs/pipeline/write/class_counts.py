"""Counts the labels of rows as they are written: per label, by confidence, and against a gold column."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from beam_jobs.store.manifest import GoldCounts
from model_bundle.inference.scores import labels_by_spelling

# Bins of the best score of a row, 5 % wide.
_BINS = 20
# A matrix of every pair of labels grows with their square.
_MAX_CONFUSED = 30
_LABEL, _NONE, _SCORE = "label/", "label_none", "score/"
_TRUE, _PREDICTED, _RIGHT, _PAIR = "gold/", "gold_predicted/", "gold_right/", "gold_pair/"
_SCORE_TRUE, _SCORE_RIGHT = "gold_score/", "gold_score_right/"
_MISSING, _UNKNOWN = "gold_missing", "gold_unknown"


def count_classes(batch: pa.RecordBatch, metadata: Mapping[bytes, bytes]) -> dict[str, int]:
    """Counts a batch of classified rows; empty for other rows.

    Args:
        batch: rows of a run.
        metadata: that of their file, with the labels and the gold column.
    """
    names = set(batch.schema.names)
    if not names & {"label", "labels"}:
        return {}
    counts: Counter[str] = Counter()
    if "labels" in names:
        given = batch.column("labels")
        counts[_NONE] = sum(1 for offset in np.diff(given.offsets.to_numpy()) if offset == 0)
        labels = given.flatten()
    else:
        labels = batch.column("label")
    for entry in labels.value_counts().to_pylist():
        counts[f"{_LABEL}{entry['values']}"] = entry["counts"]
    bins = _confidence_bins(batch)
    if bins is not None:
        for place, number in zip(*np.unique(bins, return_counts=True), strict=True):
            counts[f"{_SCORE}{place}"] = int(number)
    gold = metadata.get(b"beam_jobs.gold")
    if gold is not None and "label" in names:
        known = json.loads(metadata[b"beam_jobs.labels"])
        counts.update(_count_gold(batch, gold.decode(), known, bins))
    return {name: number for name, number in counts.items() if number}


def _confidence_bins(batch: pa.RecordBatch) -> np.ndarray | None:
    """Returns int[rows], the bin of each row's best score; None where scores are not between 0 and 1."""
    column = "top_scores" if "top_scores" in batch.schema.names else "scores"
    scores = batch.column(column).flatten().to_numpy(zero_copy_only=False)
    if not batch.num_rows or len(scores) % batch.num_rows or not len(scores):
        return None
    best = scores.reshape(batch.num_rows, -1).max(axis=1)
    if not ((best >= 0) & (best <= 1 + 1e-6)).all():
        return None
    return np.asarray(np.minimum((best * _BINS).astype(int), _BINS - 1))


def _count_gold(
    batch: pa.RecordBatch, column: str, known: list[str], bins: np.ndarray | None
) -> Counter[str]:
    by_name = labels_by_spelling(known)
    counts: Counter[str] = Counter()
    predicted = batch.column("label").to_pylist()
    for row, (value, label) in enumerate(zip(batch.column(column).to_pylist(), predicted, strict=True)):
        if value is None or value == "":
            counts[_MISSING] += 1
            continue
        true = by_name.get(_spelled(value))
        if true is None:
            counts[_UNKNOWN] += 1
            continue
        counts[f"{_TRUE}{true}"] += 1
        counts[f"{_PREDICTED}{label}"] += 1
        if len(known) <= _MAX_CONFUSED:
            counts[f"{_PAIR}{json.dumps([true, label])}"] += 1
        if bins is not None:
            counts[f"{_SCORE_TRUE}{bins[row]}"] += 1
        if true == label:
            counts[f"{_RIGHT}{label}"] += 1
            if bins is not None:
                counts[f"{_SCORE_RIGHT}{bins[row]}"] += 1
    return counts


def _spelled(value: object) -> str:
    """Returns a gold value as text; 1.0 and true are the label at position 1."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value)


def sum_classes(total: Mapping[str, int], gold: tuple[str, str] | None = None) -> dict[str, object]:
    """Returns the fields of ``RunCounts`` that are about classes.

    Args:
        total: the counts of all receipts.
        gold: the column of true labels, in the rows and in the input.
    """
    fields: dict[str, object] = {
        "rows_by_label": _ranked(_part(total, _LABEL)),
        "num_without_label": total.get(_NONE, 0),
        "rows_by_score": _percents(total, _SCORE),
    }
    if gold is not None:
        confusion: dict[str, dict[str, int]] = {}
        for pair, number in _part(total, _PAIR).items():
            true, predicted = json.loads(pair)
            confusion.setdefault(true, {})[predicted] = number
        fields["gold"] = GoldCounts(
            column=gold[1],
            output_column=gold[0],
            num_missing=total.get(_MISSING, 0),
            num_unknown=total.get(_UNKNOWN, 0),
            rows_by_label=_ranked(_part(total, _TRUE)),
            predicted_by_label=_ranked(_part(total, _PREDICTED)),
            right_by_label=_ranked(_part(total, _RIGHT)),
            confusion=confusion,
            rows_by_score=_percents(total, _SCORE_TRUE),
            right_by_score=_percents(total, _SCORE_RIGHT),
        )
    return fields


def _part(total: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in total.items() if name.startswith(prefix)}


def _ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts, the largest first; equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _percents(total: Mapping[str, int], prefix: str) -> dict[int, int]:
    found = {int(place) * 100 // _BINS: number for place, number in _part(total, prefix).items()}
    return dict(sorted(found.items()))

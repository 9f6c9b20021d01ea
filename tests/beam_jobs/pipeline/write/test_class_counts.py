"""Counts of labels as rows are written: sums over batches equal those of the whole, and those of scikit-like
formulas written out here."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.pipeline.write.class_counts import count_classes, sum_classes
from beam_jobs.store.manifest import GoldCounts

NAMES = ("bad", "so/so", "good")
METADATA = {b"beam_jobs.labels": json.dumps(NAMES).encode(), b"beam_jobs.gold": b"truth"}
GOLD = ("truth", "mood")
ROW = st.tuples(
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
    st.sampled_from([*NAMES, "0", "2", "weird", None]),
)


def batch_of(rows: list[tuple[list[float], str | None]]) -> pa.RecordBatch:
    scores = [row[0] for row in rows]
    return pa.RecordBatch.from_pydict(
        {
            "label": [NAMES[int(np.argmax(row))] for row in scores],
            "scores": pa.array(scores, pa.list_(pa.float32())),
            "truth": pa.array([row[1] for row in rows], pa.string()),
        }
    )


@given(rows=st.lists(ROW, min_size=1, max_size=40), cut=st.integers(0, 40))
def test_counts_of_parts_add_up_to_those_of_the_rows(
    rows: list[tuple[list[float], str | None]], cut: int
) -> None:
    whole = batch_of(rows)
    total: Counter[str] = Counter()
    for part in (whole.slice(0, cut), whole.slice(cut)):
        total.update(count_classes(part, METADATA))
    fields = sum_classes(total, GOLD)
    labels = [NAMES[int(np.argmax(scores))] for scores, _ in rows]
    assert fields["rows_by_label"] == dict(Counter(labels))
    best = [max(np.float32(score) for score in scores) for scores, _ in rows]
    assert fields["rows_by_score"] == dict(Counter(min(int(s * np.float32(20)), 19) * 5 for s in best))
    true = [{"0": "bad", "2": "good"}.get(value or "", value) for _, value in rows]
    pairs = [(t, p) for t, p in zip(true, labels, strict=True) if t in NAMES]
    gold = fields["gold"]
    assert isinstance(gold, GoldCounts)
    assert (gold.column, gold.output_column) == ("mood", "truth")
    assert gold.num_missing == true.count(None)
    assert gold.num_unknown == true.count("weird")
    assert gold.rows_by_label == dict(Counter(t for t, _ in pairs))
    assert gold.right_by_label == dict(Counter(t for t, p in pairs if t == p))
    assert {(t, p): n for t, found in gold.confusion.items() for p, n in found.items()} == Counter(pairs)
    assert gold.num_rows == len(pairs) == sum(gold.rows_by_score.values())
    assert sum(gold.right_by_score.values()) == sum(gold.right_by_label.values())
    assert gold.accuracy == (sum(t == p for t, p in pairs) / len(pairs) if pairs else 0.0)


def test_several_labels_per_row() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "labels": [["a", "b"], [], ["b"], []],
            "scores": pa.array([[0.9, 0.8], [0.1, 0.2], [0.3, 0.6], [0.0, 1.0]], pa.list_(pa.float32())),
        }
    )
    fields = sum_classes(count_classes(batch, {}))
    assert fields["rows_by_label"] == {"b": 2, "a": 1}
    assert fields["num_without_label"] == 2
    assert fields["rows_by_score"] == {20: 1, 60: 1, 90: 1, 95: 1}
    fields = sum_classes(count_classes(batch.slice(1, 2), {}))
    assert (fields["rows_by_label"], fields["num_without_label"]) == ({"b": 1}, 1)


def test_best_scores_alone_and_scores_beyond_one() -> None:
    """With --top_k the best score is the first; scores that are no shares have no confidence."""
    best = pa.array([[0.52, 0.3], [0.97, 0.01]], pa.list_(pa.float32()))
    batch = pa.RecordBatch.from_pydict({"label": ["a", "b"], "top_scores": best})
    assert sum_classes(count_classes(batch, {}))["rows_by_score"] == {50: 1, 95: 1}
    raw = pa.array([[3.0, -2.0]], pa.list_(pa.float32()))
    batch = pa.RecordBatch.from_pydict({"label": ["a"], "scores": raw})
    assert sum_classes(count_classes(batch, {}))["rows_by_score"] == {}
    assert count_classes(pa.RecordBatch.from_pydict({"doc_id": ["a"]}), {}) == {}
    assert sum_classes({})["rows_by_label"] == {}


def test_stars_are_names_and_no_positions() -> None:
    """Of labels 1 to 3, the true label 1 is one star, never the second label; 0 is counted as unknown."""
    names = {b"beam_jobs.labels": b'["1", "2", "3"]', b"beam_jobs.gold": b"truth"}
    batch = pa.RecordBatch.from_pydict(
        {
            "label": ["1", "2", "3", "1"],
            "scores": pa.array([[1.0, 0.0, 0.0]] * 4, pa.list_(pa.float32())),
            "truth": [1, 1, 3, 0],
        }
    )
    gold = sum_classes(count_classes(batch, names), GOLD)["gold"]
    assert isinstance(gold, GoldCounts)
    assert (gold.rows_by_label, gold.right_by_label, gold.num_unknown) == (
        {"1": 2, "3": 1},
        {"1": 1, "3": 1},
        1,
    )

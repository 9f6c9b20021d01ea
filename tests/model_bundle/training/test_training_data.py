"""Rows to learn from: every fault of a table is told with its row, and what is held out is right."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_bundle.errors import SettingsError
from model_bundle.training.examples import read_examples
from model_bundle.training.options import DataOptions, HeadOptions
from model_bundle.training.report import Evaluation, Metrics, write_training
from model_bundle.training.split import read_data, row_weights

ROWS = [("a cat", "no", 1.5), ("a dog", "yes", -2.0), ('he said "ran', "no", 0.0), ("home", "yes", 3.0)]


def write(path: Path, rows: list[tuple[Any, ...]], names: str = "text,label,x") -> Path:
    lines = [names, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def options(path: Path, **more: Any) -> DataOptions:
    return DataOptions(path, "text", "label", **more)


def test_every_format_gives_the_same(tmp_path: Path) -> None:
    quiet = [row for row in ROWS if '"' not in row[0]]
    records = [dict(zip(("text", "label", "x"), row, strict=True)) for row in quiet]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write(tmp_path / "c.csv", quiet)
    (tmp_path / "d.tsv").write_text("".join(f"{t}\t{y}\t{x}\n" for t, y, x in quiet))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "e.parquet")
    for path in sorted(tmp_path.iterdir()):
        named = {"column_names": ("text", "label", "x")} if path.suffix == ".tsv" else {}
        found = read_examples(path, options(path, numeric_columns=("x",), **named))
        assert (found.texts, found.labels) == (["a cat", "a dog", "home"], ["no", "yes", "yes"]), path
        np.testing.assert_array_equal(found.numbers, [[1.5], [-2.0], [3.0]])
        assert found.rows == [1, 2, 3]


def test_quotes_are_ordinary_where_that_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("a cat", "no", 1), ('"open', "no", 2), ("b", "yes", 3)])
    with pytest.raises(SettingsError, match=r"row 2 \(line \d\): .*use --no_csv_quotes"):
        read_examples(path, options(path))
    found = read_examples(path, options(path, csv_quotes=False))
    assert found.texts[1] == '"open'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("b", "", 2), "row 2: label is empty"),
        (("b", "  ", 2), "row 2: label is '  ', which is not a label"),
        (("", "no", 2), "row 2: text is blank"),
        (("b", "no", "nan"), "row 2: x is 'nan', which is not finite"),
        (("b", "no", "inf"), "row 2: x is 'inf', which is not finite"),
        (("b", "no", "many"), "row 2: x is 'many', which is not a number"),
        (("b", "no"), r"row 2 \(line 3\): 2 cells, expected 3"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: tuple[Any, ...], message: str) -> None:
    path = write(tmp_path / "a.csv", [ROWS[0], row, ROWS[1]])
    with pytest.raises(SettingsError, match=message):
        read_examples(path, options(path, numeric_columns=("x",)))


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("b", "", 1)] * 9)
    with pytest.raises(SettingsError, match=r"(?s)9 rows cannot be used for training.*row 5: .*… and 4 more"):
        read_examples(path, options(path))


def test_json_that_is_none_and_values_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": 7, "label": 1}\n{"text": "b", "label": null}\n')
    with pytest.raises(SettingsError, match=r"(?s)row 2: text is not text.*row 3: label is empty"):
        read_examples(path, options(path))
    path.write_text('{"text": "a", "label": 1}\n\n{nothing}\n')
    with pytest.raises(SettingsError, match="row 3: not valid JSON"):
        read_examples(path, options(path))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS[:2])
    with pytest.raises(SettingsError, match="no column body; the columns are: text, label, x"):
        read_examples(path, DataOptions(path, "body", "label"))
    with pytest.raises(SettingsError, match="named twice"):
        DataOptions(path, "text", "text")
    with pytest.raises(SettingsError, match=r"held_out 1\.0"):
        options(path, held_out=1.0)
    with pytest.raises(SettingsError, match=r"expected \.tsv"):
        read_examples(tmp_path / "a.docx", options(path))


def test_one_class_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("a", "no", 1), ("b", "no", 2)])
    with pytest.raises(SettingsError, match="every row has the label 'no', from row 1 to row 2"):
        read_data(options(path), 1)


def test_a_label_with_one_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("a", "no", 1), ("b", "no", 2), ("c", "yes", 3)])
    with pytest.raises(SettingsError, match="row 3: it is the only one with the label 'yes'"):
        read_data(options(path), 1)


def test_a_label_that_is_never_learned(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", [("a", "no", 1), ("b", "yes", 2)])
    dev = write(tmp_path / "dev.csv", [("a", "no", 1), ("b", "maybe", 2), ("c", "maybe", 2)])
    with pytest.raises(SettingsError, match=r"dev.csv, row 2: the label 'maybe' .*: no, yes\. 2 rows"):
        read_data(options(train, dev=dev), 1)


@given(counts=st.lists(st.integers(2, 40), min_size=2, max_size=5), share=st.floats(0.01, 0.99))
def test_what_is_held_out_has_every_label_and_no_row_twice(
    counts: list[int], share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [(f"text {label} {i}", label, 0) for label, count in enumerate(counts) for i in range(count)]
    path = write(tmp_path_factory.mktemp("split") / "a.csv", rows)
    data = read_data(options(path, held_out=share), 3)
    assert sorted(data.train.rows + data.held_out.rows) == list(range(1, len(rows) + 1))
    for part in (data.train, data.held_out):
        assert set(part.labels) == set(data.labels) == {str(label) for label in range(len(counts))}
    for label, count in enumerate(counts):
        held = data.held_out.labels.count(str(label))
        assert held == min(max(round(share * count), 1), count - 1)
    assert read_data(options(path, held_out=share), 3).held_out.rows == data.held_out.rows


def test_labels_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("a", label, 0) for label in (10, 9, 2) for _ in range(2)])
    assert read_data(options(path), 1).labels == ("2", "9", "10")


def test_what_rows_count() -> None:
    classes = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(row_weights(classes, ["no", "yes"], "balanced"), [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(row_weights(classes, ["no", "yes"], {"yes": 5}), [1, 1, 1, 5])
    with pytest.raises(SettingsError, match="no label 'maybe'; the labels are: no, yes"):
        row_weights(classes, ["no", "yes"], {"maybe": 1.0})
    for bad in ({"seed": -1}, {"learning_rate": 0.0}, {"l2": -1.0}, {"mix": True, "fine_tune": True}):
        with pytest.raises(SettingsError, match="--"):
            HeadOptions(**bad)  # type: ignore[arg-type]  # each is of its own type


def test_metrics_are_those_of_the_book() -> None:
    """Five rows: three of a, of which one is taken for b; two of b, both found; c never comes."""
    metrics = Metrics.of(["a", "b", "c"], np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1]))
    assert metrics.accuracy == pytest.approx(4 / 5)
    np.testing.assert_allclose(metrics.precision, [1, 2 / 3, 0])
    np.testing.assert_allclose(metrics.recall, [2 / 3, 1, 0])
    np.testing.assert_allclose(metrics.f1, [0.8, 0.8, 0])
    assert metrics.macro_f1 == pytest.approx(0.8)
    assert metrics.to_json()["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_the_report_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    labels = ["<script>alert(1)</script>", "b & c"]
    metrics = Metrics.of(labels, np.array([0, 1, 1]), np.array([0, 1, 0]))
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    judged = Evaluation("dev.csv", [4, 5, 9], np.array([0, 1, 1]), scores, metrics)
    write_training(
        tmp_path, judged, {"seed": 1}, [{"train_loss": 0.5, "held_out_loss": 0.25, "held_out_accuracy": 0.75}]
    )
    page = (tmp_path / "training" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<rect") == 4
    assert "66.7% of 3 held-out rows are correct" in page
    assert "<td>75.0%</td>" in page
    assert "http" not in page
    assert (tmp_path / "training" / "predictions.csv").read_text().splitlines() == [
        "row,label,predicted,score",
        "4,<script>alert(1)</script>,<script>alert(1)</script>,0.900000",
        "5,b & c,b & c,0.800000",
        "9,b & c,<script>alert(1)</script>,0.600000",
    ]
    found = json.loads((tmp_path / "training" / "metrics.json").read_text())
    assert (found["seed"], found["held_out"], found["epochs"][0]["train_loss"]) == (1, "dev.csv", 0.5)

"""``--column_types``: the same values in every format."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.errors import UsageError
from tests.support.runs.reading import inspect, read_checked, reasons, refused, write


def columns(outcomes: list[Any]) -> list[Any]:
    return [outcome.columns[0] if isinstance(outcome, Document) else outcome.reason for outcome in outcomes]


@pytest.mark.parametrize(
    ("kind", "spelled", "expected"),
    [
        ("int64", ["7", " -7 ", "007", "", "1.5", "x", "9223372036854775808", "1_0", "٣", "7.0"],
         [7, -7, 7, None, *["column_type"] * 6]),
        ("float64", ["1", "1.5", "-2e3", "", "x", "1_0"], [1.0, 1.5, -2000.0, None, *["column_type"] * 2]),
        ("float64", ["1e400", "-1e999", "inf", "1e308"], ["column_type", "column_type", math.inf, 1e308]),
        ("bool", ["true", "False", " TRUE", "", "1", "yes"], [True, False, True, None, *["column_type"] * 2]),
        ("string", ["007", "", " x "], ["007", "", " x "]),
    ],
)  # fmt: skip
def test_text_is_what_it_spells(tmp_path: Path, kind: str, spelled: list[str], expected: list[Any]) -> None:
    rows = [{"text": "t", "c": value} for value in spelled]
    table = pa.Table.from_pylist(rows)
    write(tmp_path, a_jsonl=rows, a_json=json.dumps(rows), a_parquet=table)
    write(tmp_path, a_csv="text,c\n" + "".join(f't,"{value}"\n' for value in spelled))
    for path in sorted(tmp_path.iterdir()):
        found = read_checked(path, text_columns=("text",), keep_columns=("c",), column_types=(("c", kind),))
        assert columns(found) == expected, path.name


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("string", [7, -1, None], ["7", "-1", None]),
        ("string", [1.5, 2.0], ["1.5", "2.0"]),
        ("string", [True, False], ["true", "false"]),
        ("string", [[1, None], []], ["[1, null]", "[]"]),
        ("string", [{"b": 1}], ['{"b": 1}']),
        ("float64", [7, 2**53 + 1], [7.0, "column_type"]),
        ("int64", [2.0, 0.5], [2, "column_type"]),
        ("bool", [1, 0], ["column_type", "column_type"]),
    ],
)
def test_other_values_lose_nothing(tmp_path: Path, kind: str, values: list[Any], expected: list[Any]) -> None:
    rows = [{"text": "t", "c": value} for value in values]
    write(tmp_path, a_jsonl=rows, a_parquet=pa.Table.from_pylist(rows))
    for path in sorted(tmp_path.iterdir()):
        found = read_checked(path, text_columns=("text",), keep_columns=("c",), column_types=(("c", kind),))
        assert columns(found) == expected, path.name


def test_late_values_of_another_type(tmp_path: Path) -> None:
    values: list[Any] = [*range(2_000), 0.5, "n/a", None]
    path = tmp_path / "a.jsonl.gz"
    lines = "".join(json.dumps({"text": "t", "score": value}) + "\n" for value in values)
    path.write_bytes(gzip.compress(lines.encode()))
    inferred = read_checked(path, text_columns=("text",), keep_columns=("score",))
    assert reasons(inferred)[2_000:] == ["column_type", "column_type", "ok"]
    assert isinstance(inferred[2_000], DeadLetter)
    assert "--column_types score=string" in inferred[2_000].message
    for kind, late in (("float64", [0.5, "column_type", None]), ("string", ["0.5", "n/a", None])):
        stated = read_checked(
            path, text_columns=("text",), keep_columns=("score",), column_types=(("score", kind),)
        )
        assert columns(stated)[2_000:] == late


def test_times_and_decimals_become_text(tmp_path: Path) -> None:
    table = pa.table({"text": ["t"], "c": pa.array([86_400_000], pa.timestamp("ms"))})
    write(tmp_path, a_parquet=table)
    options: dict[str, Any] = {"keep_columns": ("c",), "text_columns": ("text",)}
    found = read_checked(tmp_path / "a.parquet", column_types=(("c", "string"),), **options)
    assert columns(found) == ["1970-01-02 00:00:00.000"]


def test_files_that_disagree(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"text": ["t"], "c": [1]}))
    write(tmp_path, b_parquet=pa.table({"text": ["t"], "c": ["x"]}))
    options: dict[str, Any] = {"keep_columns": ("c",), "text_columns": ("text",)}
    assert "--column_types c=string" in refused(f"{tmp_path}/*", **options)
    assert columns(read_checked(f"{tmp_path}/*", column_types=(("c", "string"),), **options)) == ["1", "x"]


@pytest.mark.parametrize(
    ("types", "message"),
    [((("c", "date"),), "expected one of string, int64"), ((("d", "string"),), "each of the --keep_columns")],
)
def test_statements_that_do_not_fit(types: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        inspect("a.jsonl", keep_columns=("c",), column_types=types)

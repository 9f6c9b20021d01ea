"""Folders, partitions, names without ending, and a stated format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.base.records import DeadFile, Document
from beam_jobs.errors import NoInputError
from beam_jobs.pipeline.read.files.patterns import match_pattern
from tests.support.runs.reading import ids, inspect, read_checked, reasons, refused, texts, write


def partitioned(folder: Path, **values: str) -> Path:
    below = folder.joinpath(*(f"{name}={value}" for name, value in values.items()))
    below.mkdir(parents=True)
    write(below, a_parquet=pa.table({"text": ["x", "y"], "n": [1, 2]}))
    return below


def columns(outcomes: list[Any]) -> list[Any]:
    return [outcome.columns for outcome in outcomes if isinstance(outcome, Document)]


def test_a_folder_means_its_files_but_for_marks_and_logs(tmp_path: Path) -> None:
    root = tmp_path / "table"
    for name in ("_delta_log", "_temporary/0", ".git", "b/c", "_x=1"):
        (root / name).mkdir(parents=True)
        write(root / name, a_jsonl=[{"text": name}])
    write(root, a_jsonl=[{"text": "top"}])
    for name in ("_SUCCESS", ".a.jsonl.crc"):
        (root / name).write_bytes(b"")
    for path in (root, f"{root}/"):
        outcomes = read_checked(path)
        assert texts(outcomes) == ["_x=1", "top", "b/c"]
        assert ids(outcomes) == ["_x=1/a.jsonl#0", "a.jsonl#0", "b/c/a.jsonl#0"]
    write(root, notes_md="x")
    assert "--input_format" in refused(root)


def test_a_folder_of_no_files_and_one_with_wildcards_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    with pytest.raises(NoInputError, match="No file matches"):
        inspect(folder)
    write(folder, a_txt="x\n")
    assert ids(read_checked(folder)) == ["a.txt#0"]


def test_partitions_can_be_kept(tmp_path: Path) -> None:
    partitioned(tmp_path, date="2024-01-01", lang="de%20AT")
    partitioned(tmp_path, date="2024-01-02", lang="__HIVE_DEFAULT_PARTITION__")
    outcomes = read_checked(tmp_path, keep_columns=("lang", "n", "date"))
    assert columns(outcomes) == [
        ("de AT", 1, "2024-01-01"),
        ("de AT", 2, "2024-01-01"),
        (None, 1, "2024-01-02"),
        (None, 2, "2024-01-02"),
    ]
    # A pattern for one day has the same columns.
    one_day = read_checked(f"{tmp_path}/date=2024-01-02/**", keep_columns=("date",))
    assert columns(one_day) == [("2024-01-02",)] * 2
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", b_parquet=pa.table({"text": ["z"], "n": [3]}))
    assert "but not of" in refused(tmp_path, keep_columns=("date",))


def test_partitions_have_stated_types_and_other_names(tmp_path: Path) -> None:
    partitioned(tmp_path, year="2024")
    options: dict[str, Any] = {
        "keep_columns": ("year",),
        "rename_columns": (("year", "y"),),
        "column_types": (("year", "int64"),),
    }
    assert inspect(tmp_path, **options).kept_schema == pa.schema([("y", pa.int64())])
    assert columns(read_checked(tmp_path, **options)) == [(2024,)] * 2
    partitioned(tmp_path, year="soon")
    outcomes = read_checked(tmp_path, **options)
    assert reasons(outcomes) == ["ok", "ok", "column_type"]
    assert isinstance(outcomes[-1], DeadFile)


def test_a_column_of_the_file_comes_before_a_partition(tmp_path: Path) -> None:
    partitioned(tmp_path, n="7")
    assert columns(read_checked(tmp_path, keep_columns=("n",))) == [(1,), (2,)]


def test_text_files_have_partitions_as_their_only_columns(tmp_path: Path) -> None:
    folder = tmp_path / "lang=de"
    folder.mkdir()
    write(folder, a_txt="x\ny\n")
    assert columns(read_checked(tmp_path, keep_columns=("lang",))) == [("de",), ("de",)]
    assert "has no columns" in refused(tmp_path, keep_columns=("lang", "n"))


def test_names_without_ending(tmp_path: Path) -> None:
    (tmp_path / "part-0").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "part-1.gz").write_bytes(gzip.compress(b'{"text": "b"}\n'))
    assert "unsupported file extension" in refused(tmp_path)
    assert texts(read_checked(tmp_path, input_format="jsonl")) == ["a", "b"]
    assert texts(read_checked(tmp_path / "part-0", input_format="text")) == ['{"text": "a"}']
    (tmp_path / "part-2").write_bytes(gzip.compress(b'{"text": "b"}\n'))
    assert "end in .gz" in refused(tmp_path, input_format="jsonl")
    assert "compressed inside" in refused(tmp_path / "part-1.gz", input_format="avro")
    assert [file.format for file in match_pattern(str(tmp_path), "json")] == ["json"] * 3

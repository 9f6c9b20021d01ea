"""The check before work: matching, ids, columns, and flags that cannot be meant."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.base.config import ReadOptions
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read import inspect as inspect_module
from beam_jobs.pipeline.read.types import ReadPlan
from tests.support.runs.reading import COMPRESS, ids, inspect, read_checked, reasons, refused, write


def test_files_come_in_order_with_paths_behind_the_fixed_prefix(tmp_path: Path) -> None:
    for name in ("b/part-1.txt", "b/part-0.txt", "a/x/part-2.txt.gz", "a/PART.TXT"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(COMPRESS["gz"](b"x\n") if name.endswith("gz") else b"x\n")
    summary = inspect(f"{tmp_path}/b/part-*", f"{tmp_path}/a/**")
    assert [file.relative for file in summary.files] == [
        "part-0.txt",
        "part-1.txt",
        "PART.TXT",
        "x/part-2.txt.gz",
    ]
    assert [file.compression for file in summary.files] == [None, None, None, "gz"]
    assert summary.total_bytes == sum(Path(file.path).stat().st_size for file in summary.files)
    assert summary.text_columns == ()
    assert ids(read_checked(f"{tmp_path}/**/part-?.txt*")) == [
        "a/x/part-2.txt.gz#0",
        "b/part-0.txt#0",
        "b/part-1.txt#0",
    ]


def test_ids_do_not_depend_on_where_the_data_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in ("here", "there/deep"):
        (tmp_path / home / "d").mkdir(parents=True)
        write(tmp_path / home / "d", a_txt="one\ntwo\n")
    monkeypatch.chdir(tmp_path / "here" / "d")
    relative = read_checked("*.txt")
    assert (
        ids(relative)
        == ids(read_checked(tmp_path / "there" / "deep" / "d" / "a.txt"))
        == ["a.txt#0", "a.txt#4"]
    )
    assert {outcome.source for outcome in relative} == {str(tmp_path / "here" / "d" / "a.txt")}
    assert ids(read_checked("../../there/*/d/*.txt")) == ["deep/d/a.txt#0", "deep/d/a.txt#4"]


def test_a_name_with_wildcards_in_it_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a[1]*.txt").write_text("x\n")
    assert ids(read_checked(tmp_path / "a[1]*.txt")) == ["a[1]*.txt#0"]


def test_a_summary_pickles(tmp_path: Path) -> None:
    write(tmp_path, a_jsonl=[{"text": "x", "n": 1}])
    summary = inspect(tmp_path / "a.jsonl", keep_columns=("n",))
    assert pickle.loads(pickle.dumps(summary)) == summary
    plan = summary.plan(ReadOptions(("x",)))
    assert (
        pickle.loads(pickle.dumps(plan))
        == plan
        == ReadPlan(ReadOptions(("x",)), ("text",), summary.kept_schema)
    )


def test_no_match_and_unknown_storage(tmp_path: Path) -> None:
    write(tmp_path, a_txt="x\n")
    assert f"No file matches {tmp_path}/*.csv" in refused(f"{tmp_path}/*.txt", f"{tmp_path}/*.csv")
    assert "nosuch://x/: expected a local path or a URL that begins with" in refused("nosuch://x/*.txt")


@pytest.mark.parametrize(
    "name", ["a.jsonx", "a.docx", "README", "a.parquet.gz", "a.txt.xz", ".txt.gz.zst", "a.gz"]
)
def test_formats_that_cannot_be_read_are_listed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    message = refused(tmp_path / name)
    assert name in message
    assert ".jsonl (or .ndjson)" in message
    assert "--input_format" in message


def test_a_file_matched_twice(tmp_path: Path) -> None:
    write(tmp_path, a_txt="x\n", b_txt="x\n")
    message = refused(f"{tmp_path}/*.txt", f"{tmp_path}/a*")
    assert f"{tmp_path}/a.txt matches both" in message
    assert f"{tmp_path}/a*" in message


def test_two_patterns_that_give_one_id(tmp_path: Path) -> None:
    for folder in ("2023", "2024"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, a_csv="text,id\nx,1\n")
    patterns = (f"{tmp_path}/2023/*.csv", f"{tmp_path}/2024/*.csv")
    message = refused(*patterns)
    assert f"{tmp_path}/2023/a.csv and {tmp_path}/2024/a.csv" in message
    suggested = message.split("such as '")[1].split("'")[0]
    assert ids(read_checked(suggested, text_columns=("text",))) == ["2023/a.csv#0", "2024/a.csv#0"]
    assert len(inspect(*patterns, id_column="id").files) == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.txt", {"id_column": "id"}, "--id_column does not apply"),
        ("a.txt", {"keep_columns": ("n",)}, "--keep_columns does not apply"),
        ("a.txt", {"text_columns": ("n",)}, "--text_column does not apply"),
        ("a.txt", {"delimiter": ";"}, "--delimiter applies only to .csv files"),
        ("a.tsv", {"delimiter": ";"}, "in .tsv it is always a tab"),
        ("a.jsonl", {"delimiter": ";"}, "--delimiter applies only to .csv files"),
        ("a.jsonl", {"whole_files": True}, "--whole_files applies only to .txt files"),
        ("a.txt", {"column_names": ("text",)}, "--column_names applies only to .csv and .tsv"),
        ("a.txt", {"csv_quotes": False}, "--no_csv_quotes applies only to .csv and .tsv"),
        ("a.txt", {"encoding": "utf-99"}, "'utf-99' is not a text encoding"),
        ("a.jsonl", {"keep_columns": ("doc_id",)}, "--keep_columns 'doc_id'"),
        ("a.jsonl", {"keep_columns": ("b",), "rename_columns": (("b", "text"),)}, "--keep_columns 'b'"),
        ("a.jsonl", {"keep_columns": ("embedding_2",)}, "--keep_columns 'embedding_2'"),
    ],
)
def test_flags_that_cannot_be_meant(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    (tmp_path / name).write_text('{"text": "x"}\n')
    assert message in refused(f"{tmp_path}/*", **options)


def test_an_encoding_for_parquet_cannot_be_meant(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"text": ["x"]}))
    assert "--encoding applies only to text files" in refused(tmp_path / "a.parquet", encoding="cp1252")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": '"'}, "already have a meaning"),
        ({"delimiter": "ab"}, "one character"),
        ({"column_names": ("a", "a")}, "--column_names names ['a'] more than once"),
        ({"text_columns": ("a", "a")}, "--text_column names ['a'] more than once"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ReadOptions(("a.csv",), **options)
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_warning_and_a_dead_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, a_parquet=b"PAR1 this is none", b_parquet=pa.table({"text": ["x"]}))
    write(tmp_path, c_jsonl_gz=COMPRESS["gz"](b'{"text": "y"}\n')[:-3])
    with caplog.at_level(logging.WARNING):
        summary = inspect(f"{tmp_path}/*")
    assert len(summary.warnings) == 1
    assert summary.warnings[0].startswith(f"{tmp_path}/a.parquet cannot be read")
    assert caplog.messages == list(summary.warnings)
    outcomes = read_checked(f"{tmp_path}/*")
    assert reasons(outcomes) == ["damaged", "ok", "ok", "truncated"]
    assert "none of the inspected files could be read" in refused(tmp_path / "a.parquet")


def test_empty_files_are_no_error_here(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"", b_csv=b"", c_jsonl=b"\n\n", d_csv=b"text\n")
    summary = inspect(f"{tmp_path}/*")
    assert summary.text_columns == ("text",)
    assert summary.warnings == ()
    assert read_checked(f"{tmp_path}/*") == []
    assert inspect(tmp_path / "b.csv", keep_columns=("n",)).kept_schema == pa.schema([("n", pa.string())])


def test_large_files_that_one_worker_reads_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect_module, "LARGE_FILE_BYTES", 10)
    write(
        tmp_path, a_csv="text\n" + "x" * 10, b_txt="x" * 20, c_txt_gz=COMPRESS["gz"](b"x\n"), d_csv="text\n"
    )
    (warning,) = inspect(f"{tmp_path}/*").warnings
    assert "cannot be split: 2 of 4." in warning
    assert "c.txt.gz" in warning


def test_of_many_files_some_are_opened(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path, **{f"part{number:02}_csv": "text\nx\n"})
    write(tmp_path, z_jsonl=[{"body": "x"}])
    assert "'body' in" in refused(f"{tmp_path}/*")  # the first of each format is among them
    (tmp_path / "z.jsonl").unlink()
    write(tmp_path, part07_csv="other\nx\n")
    outcomes = read_checked(f"{tmp_path}/*", text_columns=("text",))
    assert sorted(reasons(outcomes)) == ["missing_column"] + ["ok"] * 59

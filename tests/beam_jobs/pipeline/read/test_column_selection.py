"""The check before work: which columns are the text, the id and the kept ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.base.records import Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.rows.schema import row_schema
from tests.support.runs.reading import inspect, read_checked, refused, texts, write


@pytest.mark.parametrize(
    ("columns", "options", "chosen"),
    [
        ({"text": ["a"], "body": ["b"]}, {}, ("text",)),
        ({"body": ["b"]}, {}, ("body",)),
        ({"id": [1], "body": ["b"], "n": [1]}, {"id_column": "id", "keep_columns": ("n",)}, ("body",)),
        ({"title": ["a"], "body": ["b"]}, {"text_columns": ("title", "body")}, ("title", "body")),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_the_obvious_text_column_is_chosen(
    tmp_path: Path,
    columns: dict[str, list[Any]],
    options: dict[str, Any],
    chosen: tuple[str, ...],
    suffix: str,
) -> None:
    rows = pa.table(columns).to_pylist()
    csv = "\n".join([",".join(columns), *(",".join(map(str, row.values())) for row in rows)])
    write(tmp_path, **{f"a_{suffix}": {"parquet": pa.table(columns), "csv": csv, "jsonl": rows}[suffix]})
    assert inspect(f"{tmp_path}/*", **options).text_columns == chosen


def test_no_obvious_text_column(tmp_path: Path) -> None:
    write(tmp_path, a_jsonl=[{"title": "a", "body": "b"}], b_jsonl=[{"body": "x"}], c_csv="subject\nx\n")
    assert "'title', 'body'" in refused(tmp_path / "a.jsonl")
    message = refused(tmp_path / "b.jsonl", tmp_path / "c.csv")
    assert "'subject' in" in message
    assert "'body' in" in message


def test_an_unknown_column_lists_those_there_are_and_the_nearest(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_csv="id,text\n1,x\n",
        b_parquet=pa.table({"text": ["x"], "id": ["2"]}),
        c_jsonl=[{"text": "x"}],
    )
    message = refused(tmp_path / "a.csv", text_columns=("txt",))
    assert "--text_column 'txt' is not a column of" in message
    assert "Did you mean 'text'?" in message
    assert "It has: 'id', 'text'." in message
    assert "--column_names" in message
    assert "--keep_columns 'year'" in refused(tmp_path / "b.parquet", keep_columns=("year",))
    assert f"--id_column 'id' is not a column of {tmp_path}/c.jsonl" in refused(
        f"{tmp_path}/*", id_column="id"
    )


def test_a_header_that_may_be_text_is_not_shown_under_no_text(tmp_path: Path) -> None:
    write(tmp_path, a_csv="canary one,canary two\nx,y\n")
    for options in ({}, {"text_columns": ("canary on",)}):
        assert "canary" in refused(tmp_path / "a.csv", **options)
        message = refused(tmp_path / "a.csv", no_text=True, **options)
        assert "canary two" not in message
        assert "2 columns" in message


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_delimiter_is_suspected(tmp_path: Path, separator: str) -> None:
    write(tmp_path, a_csv=f"id{separator}body\n1{separator}x\n")
    assert f"give --delimiter {separator!r}" in refused(tmp_path / "a.csv")
    assert inspect(tmp_path / "a.csv", delimiter=separator, id_column="id").text_columns == ("body",)


def test_columns_of_a_type_that_cannot_be_meant(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"text": [1], "id": [1.5]}), b_jsonl=[{"text": 1, "id": [1]}])
    assert "--text_column 'text' is int64" in refused(tmp_path / "a.parquet")
    assert "--text_column 'text' is int64" in refused(tmp_path / "b.jsonl")
    table = pa.table({"text": ["a"], "id": [1.5]})
    write(tmp_path, a_parquet=table)
    assert "--id_column 'id' is double" in refused(tmp_path / "a.parquet", id_column="id")


def test_mixed_formats_with_the_same_columns_are_read_together(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_csv="text,n\nfrom csv,1\n",
        b_jsonl=[{"text": "from jsonl", "n": "2"}],
        c_parquet=pa.table({"text": ["from parquet"], "n": ["3"]}),
    )
    outcomes = read_checked(f"{tmp_path}/*", keep_columns=("n",))
    assert texts(outcomes) == ["from csv", "from jsonl", "from parquet"]
    assert inspect(f"{tmp_path}/*", keep_columns=("n",)).kept_schema == pa.schema([("n", pa.string())])


def test_types_that_disagree_between_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_parquet=pa.table({"text": ["x"], "n": pa.nulls(1)}),
        b_parquet=pa.table({"text": ["x"], "n": [1]}),
        c_parquet=pa.table({"text": ["x"], "n": ["1"]}),
    )
    summary = inspect(tmp_path / "a.parquet", tmp_path / "b.parquet", keep_columns=("n",))
    assert summary.kept_schema == pa.schema([("n", pa.int64())])
    message = refused(f"{tmp_path}/*", keep_columns=("n",))
    assert f"int64 in {tmp_path}/b.parquet and string in {tmp_path}/c.parquet" in message


def test_kept_columns_that_differ_only_by_case_are_refused(tmp_path: Path) -> None:
    write(
        tmp_path, a_parquet=pa.table({"text": ["x"], "Source": ["s"], "Id": [1], "id": [2], "label": ["l"]})
    )
    path = tmp_path / "a.parquet"
    assert "the output has a column 'source'" in refused(path, keep_columns=("Source",))
    assert "'Id' and 'id'" in refused(path, keep_columns=("Id", "id"))
    rename = {"keep_columns": ("Id", "id"), "rename_columns": (("Id", "number"),)}
    assert inspect(path, **rename).kept_schema.names == ["number", "id"]
    (document,) = read_checked(path, **rename)
    assert isinstance(document, Document)
    assert document.columns == (1, 2)
    assert inspect(path, keep_columns=("label",)).kept_schema.names == ["label"]
    taken = {"keep_columns": ("id", "label"), "rename_columns": (("label", "ID"),)}
    assert "'id' and 'ID'" in refused(path, **taken)
    assert "each of the --keep_columns at most once" in refused(path, rename_columns=(("id", "key"),))


def test_a_run_reserves_the_names_it_writes() -> None:
    kept = pa.schema([("Label", pa.string())])
    names = row_schema(["embedding"], "float32", kept, keep_text=False, metadata={}).names
    assert names[-1] == "Label"
    with pytest.raises(UsageError, match="--rename_columns Label=NEW"):
        row_schema(
            [], "float32", kept, keep_text=False, class_fields=[pa.field("label", pa.string())], metadata={}
        )


def test_the_text_cannot_be_kept_or_the_id_when_no_text_is_written(tmp_path: Path) -> None:
    write(tmp_path, a_csv="body,id\nx,1\n")
    path, body = tmp_path / "a.csv", {"text_columns": ("body",), "no_text": True}
    assert "'body' is the text, which --no_text" in refused(path, keep_columns=("body",), **body)
    assert "--id_column 'body' is the text" in refused(path, id_column="body", **body)
    assert inspect(path, keep_columns=("id",), **body).kept_schema.names == ["id"]
    write(tmp_path, b_jsonl=[{"a": {"b": {"c": "x"}, "d": 1}}])
    nested = {"text_columns": ("a.b.c",), "no_text": True}
    for name in ("a", "a.b"):
        told = refused(tmp_path / "b.jsonl", keep_columns=(name,), **nested)
        assert f"--keep_columns {name!r} contains 'a.b.c', the text" in told
    assert inspect(tmp_path / "b.jsonl", keep_columns=("a.d",), **nested).kept_schema.names == ["a.d"]

"""What the first records of a file show before work, and the way out that the error names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.types import FileColumns, FileInfo
from tests.support.runs.reading import ids, inspect, read_checked, reasons, refused, texts, write

PRETTY = '[\n {\n  "text": "a"\n },\n {\n  "text": "b"\n }\n]\n'


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a_csv", "id,text\n1,x,\n2,y,\n", {}, "end the header with one, too"),
        ("a_csv", "id;x,text\n1;x\n2;y\n3,x\n", {}, "but 2 of the first 3 have 1. Check --delimiter"),
        ("a_csv", "id,text,text\n1,x,y\n", {}, "'text' is the name of more than one column"),
        ("a_csv", "body,body,n\nx,y,1\n", {}, "Which column is the text?"),
        ("a_csv", "sep=;\nid;text\n1;x\n", {}, "--comment_prefix sep="),
        ("a_csv", "# made by a tool\nid,text\n1,x\n", {"text_columns": ("text",)}, "--comment_prefix '#'"),
        ("a_tsv", "id,text\n1,x\n", {"text_columns": ("text",)}, "rename the file to .csv"),
        ("a_jsonl", PRETTY, {}, "--input_format json"),
        ("a_jsonl", '[{"text": "a"}]\n', {}, "1 of its first 1 lines are none"),
        ("a_csv", "version https://git-lfs.github.com/spec/v1\noid x\n", {}, "git lfs pull"),
        ("a_parquet", b"version https://git-lfs.github.com/spec/v1\noid x\n", {}, "git lfs pull"),
        ("a_parquet", pa.table({"text": pa.nulls(2)}), {}, "the type is null"),
        ("a_parquet", pa.table({"text": [b"x"]}), {}, "cast the column to a string"),
        ("a_txt", "x\n", {"comment_prefix": "#"}, "--comment_prefix applies only to .csv and .tsv"),
    ],
)
def test_the_way_out_is_named_before_work(
    tmp_path: Path, name: str, content: Any, options: dict[str, Any], message: str
) -> None:
    write(tmp_path, **{name: content})
    assert message in refused(f"{tmp_path}/a.*", **options)


def test_some_records_that_do_not_fit_are_dead_letters_as_before(tmp_path: Path) -> None:
    write(tmp_path, a_csv="id,text\n1,x\n2,y,\n", b_jsonl='{"text": "z"}\n[\n')
    outcomes = read_checked(f"{tmp_path}/*", text_columns=("text",))
    assert reasons(outcomes) == ["ok", "bad_csv_row", "ok", "broken_json"]


def test_a_null_column_in_one_file_of_several_is_none_of_our_business(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"text": pa.nulls(1)}), b_parquet=pa.table({"text": ["x"]}))
    assert reasons(read_checked(f"{tmp_path}/*")) == ["ok", "ok"]


def test_some_lines_in_another_encoding_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path, a_csv="text\nplain\nplain\ncafé x\n".encode("cp1252"))
    (warning,) = inspect(tmp_path / "a.csv").warnings
    assert "1 of its first 4 lines are not. Try --encoding cp1252" in warning


@pytest.mark.parametrize("limit", [12, 1_000])
def test_comments_are_skipped_only_where_a_record_begins(tmp_path: Path, limit: int) -> None:
    long = "#" + "x" * 100
    content = f'\ufeff#one\n{long}\nn,text\n1,"a\n#b"\n{long}\n#\n2,c\n#end'
    write(tmp_path, a_csv=content)
    path = tmp_path / "a.csv"
    outcomes = read_checked(path, comment_prefix="#", text_columns=("text",), max_document_bytes=limit)
    assert texts(outcomes) == ["a\n#b", "c"]
    assert ids(outcomes) == ["a.csv#0", "a.csv#1"]


def test_addresses_of_local_files(tmp_path: Path) -> None:
    assert "without file://" in refused(f"file://{tmp_path}/a.csv")
    assert "$HOME" in refused(f"{tmp_path}/~/a.csv")


def test_a_separator_that_was_meant_to_be_a_tab() -> None:
    with pytest.raises(UsageError, match="backslash and a letter"):
        inspect("a.csv", text_separator="\\t")


def test_names_are_not_counted_one_by_one() -> None:
    """A file may have 20,000 columns."""

    class Names(tuple[str, ...]):
        __slots__ = ()

        def count(self, _value: object, /) -> int:
            raise AssertionError

    file = FileInfo("a.csv", "a.csv", 1, "csv")
    columns = FileColumns.of(file, Names(["a", "b", "a"]), [pa.string()] * 3)
    assert (list(columns.types), columns.repeated) == (["b"], ("a",))

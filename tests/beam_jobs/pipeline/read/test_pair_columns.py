"""Two texts per document: the same fate in every format, missing ones, and wrong columns."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadLetter, Document, dead_letter
from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.read.inspect import inspect_input
from tests.support.runs.reading import read_checked
from tests.support.runs.tables import FORMATS, write_table

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "question", "passage", "more")])
PAIR: dict[str, Any] = {"text_columns": ("question",), "text_pair_columns": ("passage",), "id_column": "id"}


def row(number: int, question: str | None, passage: str | None, more: str | None = None) -> dict[str, Any]:
    return {"id": str(number), "question": question, "passage": passage, "more": more}


def options(path: Path, **changes: Any) -> ReadOptions:
    return ReadOptions((str(path),), **{**PAIR, **changes})


def fates(path: Path, **changes: Any) -> list[Any]:
    """Both texts of each document, or the reason of a dead letter."""
    outcomes = read_checked(path, **{**PAIR, **changes})
    return [
        (outcome.text, outcome.text_pair) if isinstance(outcome, Document) else outcome.reason
        for outcome in outcomes
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_pair_has_the_same_texts_in_every_format(name: str, tmp_path: Path) -> None:
    rows = [row(0, "who?", "a, b"), row(1, "é\n", "北京", "x"), row(2, " ", "b"), row(3, "q", "")]
    path = write_table(tmp_path, rows, SCHEMA, [name])[name]
    assert fates(path) == [("who?", "a, b"), ("é\n", "北京"), (" ", "b"), ("q", "")]
    joined = fates(path, text_pair_columns=("passage", "more"), text_separator="|")
    assert joined == [("who?", "a, b"), ("é\n", "北京|x"), (" ", "b"), ("q", "")]
    assert fates(path, on_missing_text="dead_letter")[3] == "missing_text"
    with pytest.raises(JobError, match=r"Document 3 of .* has no second text"):
        fates(path, on_missing_text="fail")


@pytest.mark.parametrize("name", ["parquet", "jsonl", "avro"])
def test_an_absent_text_is_no_empty_one(name: str, tmp_path: Path) -> None:
    rows = [row(0, "q", None), row(1, None, "p"), row(2, None, None), row(3, "", "p"), row(4, "q", "p")]
    path = write_table(tmp_path, rows, SCHEMA, [name])[name]
    assert fates(path) == ["blank_text", "blank_text", "blank_text", ("", "p"), ("q", "p")]
    assert fates(path, on_missing_text="dead_letter") == [*["missing_text"] * 4, ("q", "p")]
    (letter, *_) = read_checked(path, **PAIR)
    assert isinstance(letter, DeadLetter)
    assert letter.text == '["q", ""]'
    assert "the columns of the second are absent or null" in letter.message


def test_the_size_limit_is_of_both_texts(tmp_path: Path) -> None:
    path = write_table(
        tmp_path, [row(0, "q" * 60, "p" * 60), row(1, "q" * 60, "p" * 30)], SCHEMA, ["parquet"]
    )["parquet"]
    assert fates(path, max_document_bytes=100) == ["too_large", ("q" * 60, "p" * 30)]


@pytest.mark.parametrize(
    ("first", "second"), [("q" * 600, "p" * 600), ('"\x01' * 900, "p"), ("", "\n" * 2000), ("q" * 999, "")]
)
def test_what_is_shown_of_a_large_pair_is_a_list_of_both(first: str, second: str, tmp_path: Path) -> None:
    path = write_table(tmp_path, [row(0, first, second)], SCHEMA, ["parquet"])["parquet"]
    (letter,) = read_checked(path, **PAIR, max_document_bytes=100)
    assert isinstance(letter, DeadLetter)
    assert letter.text is not None
    shown = json.loads(letter.text)
    assert 900 < len(letter.text) <= 1000
    assert shown[0] == first[: len(shown[0])]
    assert shown[1] == second[: len(shown[1])]
    assert len(shown) == 2


def test_the_digest_is_of_both_texts() -> None:
    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    pair = Document("1", "f", "a", text_pair="b")
    assert pair.text_sha256 == digest(digest("a") + digest("b"))
    others = [Document("1", "f", "b", text_pair="a"), Document("1", "f", "ab", text_pair="")]
    others += [Document("1", "f", "", text_pair="ab"), Document("1", "f", "a"), Document("1", "f", "ab")]
    assert len({pair.text_sha256, *(other.text_sha256 for other in others)}) == 6
    letter = dead_letter(pair, "encode", "too_long", "why")
    assert (json.loads(letter.text or ""), letter.num_bytes) == (["a", "b"], 2)
    assert dead_letter(pair, "encode", "too_long", "why", no_text=True).text is None


def test_wrong_columns_are_told_before_work(tmp_path: Path) -> None:
    path = write_table(
        tmp_path, [row(0, "q", "p") | {"n": 1}], SCHEMA.append(pa.field("n", pa.int64())), ["jsonl"]
    )["jsonl"]
    with pytest.raises(
        UsageError, match=r"--text_pair_column 'pasage' is not a column of .*Did you mean 'passage'"
    ):
        inspect_input(options(path, text_pair_columns=("pasage",)))
    with pytest.raises(UsageError, match=r"--text_pair_column 'n' is .*, but text is expected"):
        inspect_input(options(path, text_pair_columns=("n",)))
    with pytest.raises(UsageError, match=r"--text_column and --text_pair_column both name \['question'\]"):
        options(path, text_pair_columns=("question",))
    with pytest.raises(UsageError, match=r"--text_pair_column names .* more than once"):
        options(path, text_pair_columns=("passage", "passage"))
    with pytest.raises(UsageError, match="'passage' is the text, which --no_text keeps out"):
        inspect_input(options(path, keep_columns=("passage",), no_text=True))
    lines = tmp_path / "a.txt"
    lines.write_text("a\n")
    with pytest.raises(
        UsageError, match=r"--text_pair_column does not apply to .*a.txt: .txt has no columns"
    ):
        inspect_input(ReadOptions((str(lines),), text_pair_columns=("passage",)))


def test_the_only_other_column_is_the_first_text(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("passage,question\np,q\n")
    found = inspect_input(ReadOptions((str(path),), text_pair_columns=("passage",)))
    assert found.text_columns == ("question", "passage")
    path.write_text("text,question\np,q\n")
    with pytest.raises(UsageError, match="names the column of the first text, too; add --text_column"):
        inspect_input(ReadOptions((str(path),), text_pair_columns=("text",)))

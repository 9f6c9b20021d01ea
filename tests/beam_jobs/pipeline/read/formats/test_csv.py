"""CSV and TSV by RFC 4180."""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.pipeline.read.formats.csv_records import iter_records
from beam_jobs.pipeline.read.types import DamagedFileError
from tests.support.examples import examples
from tests.support.runs.reading import csv_bytes, ids, read_checked, read_unchecked, reasons, texts

KEEP_N = {"kept": pa.schema([("n", pa.string())])}


def test_quoted_line_breaks_doubled_quotes_and_a_mark(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbftext,n\r\n"one\r\ntwo, ""three""\nfour\rfive",1\r\n\r\nsix,2'
    outcomes = read_unchecked(tmp_path / "a.csv", content, **KEEP_N)
    assert texts(outcomes) == ['one\r\ntwo, "three"\nfour\rfive', "six"]
    assert ids(outcomes) == ["a.csv#0", "a.csv#1"]
    assert [outcome.columns for outcome in outcomes if isinstance(outcome, Document)] == [("1",), ("2",)]


@settings(max_examples=examples(200), deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))), max_size=8
    ),
    delimiter=st.sampled_from(",;|\t "),
    line_end=st.sampled_from(["\r\n", "\n"]),
)
def test_what_a_csv_writer_writes_comes_back(
    rows: list[tuple[str, str]], delimiter: str, line_end: str
) -> None:
    content = csv_bytes(
        [("n", "text"), *rows], delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL
    )
    with tempfile.TemporaryDirectory() as folder:
        outcomes = read_unchecked(Path(folder, "a.csv"), content, delimiter=delimiter, **KEEP_N)
    assert [(doc.columns[0], doc.text) for doc in outcomes if isinstance(doc, Document)] == rows
    assert ids(outcomes) == [f"a.csv#{number}" for number in range(len(rows))]


@settings(max_examples=examples(300), deadline=None)
@example(body="\r\r\r\r", limit=1)
@given(body=st.text(alphabet='a,"\n\r;é', max_size=40), limit=st.integers(1, 12))
def test_skipping_a_large_record_ends_where_the_csv_module_ends_it(body: str, limit: int) -> None:
    """Records above a limit are measured by a scanner of our own: it must see the records that csv sees."""

    def records(max_bytes: int) -> tuple[list[object], bool]:
        found: list[object] = []
        stream = io.BufferedReader(io.BytesIO(body.encode()))
        try:
            found.extend(iter_records(stream, "utf-8", max_bytes, num_fields=2))
        except DamagedFileError:
            return found, True
        return found, False

    small, small_failed = records(limit)
    large, large_failed = records(10**6)
    assert small_failed == large_failed
    assert len(small) == len(large)


def test_rows_that_do_not_fit_are_dead_and_their_neighbours_are_not(tmp_path: Path) -> None:
    content = b'text,n\na,1\nb\nc,3,4\n"d"x,5\ne\rf,6\n\xff,7\ng,8\n'
    outcomes = read_unchecked(tmp_path / "a.csv", content, **KEEP_N)
    bad = "bad_csv_row"
    assert reasons(outcomes) == ["ok", bad, bad, bad, bad, "invalid_encoding", "ok"]
    assert ids(outcomes) == [f"a.csv#{number}" for number in range(7)]
    ragged = outcomes[2]
    assert isinstance(ragged, DeadLetter)
    assert "expected 2 fields, but it has 3" in ragged.message
    assert (ragged.text, ragged.num_bytes) == ("c,3,4", 5)
    assert ragged.text_sha256 == hashlib.sha256(b"c,3,4").hexdigest()


@pytest.mark.parametrize("limit", [10, 1_000])
def test_a_record_with_wrong_quotes_is_one_record_to_its_end(tmp_path: Path, limit: int) -> None:
    """Its second line looks like a record of its own."""
    content = b'n,text\n1,"a"b,"start\n2,inside"\n3,c\n'
    outcomes = read_unchecked(tmp_path / "a.csv", content, max_document_bytes=limit, **KEEP_N)
    assert reasons(outcomes) == ["too_large" if limit == 10 else "bad_csv_row", "ok"]
    assert texts(outcomes) == ["c"]
    assert isinstance(outcomes[0], DeadLetter)
    assert outcomes[0].text == '1,"a"b,"start\n2,inside"'


def test_an_unclosed_quote_does_not_swallow_the_rest_silently(tmp_path: Path) -> None:
    rows = "".join(f"row {number},{number}\n" for number in range(50))
    content = f'text,n\na,1\n"b,2\n{rows}'.encode()
    for options in ({}, {"max_document_bytes": 20}):
        outcomes = read_unchecked(tmp_path / "a.csv", content, **KEEP_N, **options)
        assert texts(outcomes) == ["a"]
        (dead,) = outcomes[1:]
        assert isinstance(dead, DeadFile)
        assert (dead.reason, dead.num_documents) == ("unclosed_quote", 1)
        assert "line 3" in dead.message


def test_an_unclosed_quote_that_meets_another_one_is_a_dead_letter(tmp_path: Path) -> None:
    content = b'text,n\n"a,1\nb,2\n"c",3\nd,4\n'
    outcomes = read_unchecked(tmp_path / "a.csv", content, **KEEP_N)
    assert reasons(outcomes) == ["bad_csv_row", "ok"]
    assert texts(outcomes) == ["d"]
    assert isinstance(outcomes[0], DeadLetter)
    assert outcomes[0].text == '"a,1\nb,2\n"c",3'


def test_without_quoting_quotes_are_text(tmp_path: Path) -> None:
    outcomes = read_unchecked(tmp_path / "a.tsv", b'text\tn\n"a\t1\n\'b"\t2\n', csv_quotes=False, **KEEP_N)
    assert texts(outcomes) == ['"a', "'b\""]


def test_fields_may_be_huge_up_to_the_limit(tmp_path: Path) -> None:
    huge = "x" * 400_000  # the csv module stops at 131,072 by itself
    outcomes = read_unchecked(tmp_path / "a.csv", csv_bytes([["text"], [huge], ["b"]]))
    assert texts(outcomes) == [huge, "b"]
    outcomes = read_unchecked(
        tmp_path / "a.csv", csv_bytes([["text"], [huge], ["b"]]), max_document_bytes=399_999
    )
    assert reasons(outcomes) == ["too_large", "ok"]
    assert isinstance(outcomes[0], DeadLetter)
    assert (outcomes[0].num_bytes, outcomes[0].text) == (400_000, "x" * 1000)
    assert outcomes[0].text_sha256 == hashlib.sha256(huge.encode()).hexdigest()


def test_a_large_record_of_many_lines_is_skipped_to_its_end(tmp_path: Path) -> None:
    record = '"' + 'line, ""quoted""\n' * 1000 + '",1'
    content = f"text,n\na,0\n{record}\r\nb,2\n".encode()
    outcomes = read_unchecked(tmp_path / "a.csv", content, max_document_bytes=500, **KEEP_N)
    assert reasons(outcomes) == ["ok", "too_large", "ok"]
    assert isinstance(outcomes[1], DeadLetter)
    assert outcomes[1].num_bytes == len(record)
    assert outcomes[1].text_sha256 == hashlib.sha256(record.encode()).hexdigest()
    assert texts(outcomes) == ["a", "b"]


def test_a_file_without_header_takes_given_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'"3","Fears for pension"\n"4","The race is on"\n')
    outcomes = read_checked(tmp_path / "a.csv", column_names=("class", "title"), text_columns=("title",))
    assert texts(outcomes) == ["Fears for pension", "The race is on"]
    assert ids(outcomes) == ["a.csv#0", "a.csv#1"]


def test_columns_are_joined_and_an_empty_field_is_left_out(tmp_path: Path) -> None:
    content = b"title,body,key\nT,B,k1\n,B,k2\n,,k3\nT,B,\n"
    outcomes = read_unchecked(
        tmp_path / "a.csv", content, text_columns=("title", "body"), text_separator=" | ", id_column="key"
    )
    assert texts(outcomes) == ["T | B", "B", ""]
    assert ids(outcomes) == ["k1", "k2", "k3", "a.csv#3"]
    assert reasons(outcomes) == ["ok", "ok", "ok", "missing_id"]
    assert isinstance(outcomes[3], DeadLetter)
    assert outcomes[3].text == "T | B"


@pytest.mark.parametrize(
    ("header", "reason"),
    [(b"a,b\n", "missing_column"), (b"text,text\n", "repeated_column"), (b'"a\n', "unclosed_quote")],
)
def test_a_header_that_does_not_fit_is_a_dead_file(tmp_path: Path, header: bytes, reason: str) -> None:
    (dead,) = read_unchecked(tmp_path / "a.csv", header + b"1,2\n")
    assert isinstance(dead, DeadFile)
    assert (dead.reason, dead.num_documents) == (reason, 0)


def test_an_empty_file_has_no_documents(tmp_path: Path) -> None:
    assert read_unchecked(tmp_path / "a.csv", b"") == []
    assert read_unchecked(tmp_path / "a.csv", b"text\n") == []


@settings(max_examples=examples(300), deadline=None)
@given(
    content=st.one_of(st.binary(max_size=200), st.text(alphabet='a,"\n\r\té\0', max_size=60).map(str.encode)),
    limit=st.sampled_from([1, 5, 10_000_000]),
    suffix=st.sampled_from(["csv", "tsv"]),
)
def test_hostile_bytes_become_documents_or_reasons(content: bytes, limit: int, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcomes = read_unchecked(Path(folder, f"a.{suffix}"), b"text\n" + content, max_document_bytes=limit)
    dead_files = [outcome for outcome in outcomes if isinstance(outcome, DeadFile)]
    assert len(dead_files) <= 1
    assert ids(outcomes) == [f"a.{suffix}#{number}" for number in range(len(outcomes) - len(dead_files))]
    assert all(outcome.num_documents == len(outcomes) - 1 for outcome in dead_files)
    for outcome in outcomes:
        if not isinstance(outcome, DeadFile):
            assert (outcome.text or "").encode() is not None

"""JSON Lines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.pipeline.read.inspect import inspect_input
from tests.support.examples import examples
from tests.support.runs.reading import (
    COMPRESS,
    ids,
    inspect,
    read_checked,
    read_unchecked,
    reasons,
    texts,
    write,
)


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_records_are_named_by_offset_and_blank_lines_are_none(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"text": "a"}\r\n\n \t\r\n{"text": "b\\n\\u00e9"}'
    outcomes = read_unchecked(tmp_path / "a.jsonl", content)
    assert texts(outcomes) == ["a", "b\né"]
    assert ids(outcomes) == ["a.jsonl#0", "a.jsonl#23"]
    zipped = read_unchecked(tmp_path / "a.ndjson.zst", COMPRESS["zst"](content))
    assert ids(zipped) == ["a.ndjson.zst#0", "a.ndjson.zst#1"]
    assert texts(zipped) == texts(outcomes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "broken_json"),
        (b"{} {}", "broken_json"),
        (b'["text"]', "broken_json"),
        (b'"text"', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"text": ' + b"1" * 5000 + b"}", "broken_json"),
        (b'{"text": "a", "text": "b"}', "broken_json"),
        (b'{"text": "a", "more": [{"x": 1, "x": 2}]}', "broken_json"),
        (b'{"text": "\xff"}', "invalid_encoding"),
        (b"{}", "missing_text"),
        (b'{"text": null}', "missing_text"),
        (b'{"text": ""}', "missing_text"),
        (b'{"text": 5}', "text_not_string"),
        (b'{"text": NaN}', "text_not_string"),
        (b'{"text": ["a"]}', "text_not_string"),
        (b'{"text": true}', "text_not_string"),
        (b'{"text": "\\ud800"}', "invalid_unicode"),
        (b'{"text": "\\udc00\\ud800"}', "invalid_unicode"),
        (b'{"text": "' + b"x" * 200_000 + b'"}', "too_large"),
        (b'{"text": "\\ud83d\\ude00"}', "ok"),
        (b'{"text": " "}', "ok"),
    ],
)
def test_one_bad_line_is_one_dead_letter(tmp_path: Path, line: bytes, reason: str) -> None:
    content = b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n'
    outcomes = read_unchecked(
        tmp_path / "a.jsonl", content, max_document_bytes=150_000, on_missing_text="dead_letter"
    )
    assert reasons(outcomes) == ["ok", reason, "ok"]
    assert texts(outcomes)[0] == "before"
    assert texts(outcomes)[-1] == "after"
    assert outcomes[1].doc_id == "a.jsonl#19"
    assert (outcomes[1].text or "").encode() is not None  # valid Unicode


def test_describing_a_deep_value_does_not_raise(tmp_path: Path) -> None:
    """Some depths can just be parsed, but not be shown, for which the stack is a little deeper."""
    depths = [*range(1, 1100), *range(1100, 12_000, 100)]  # Python 3.13 parses up to ten thousand
    deep = [b'{"text": ' + b"[" * depth + b"]" * depth + b"}\n" for depth in depths]
    outcomes = read_unchecked(tmp_path / "a.jsonl", b"".join(deep) + b'{"text": "after"}\n')
    assert len(outcomes) == len(depths) + 1
    assert texts(outcomes) == ["after"]
    assert set(reasons(outcomes)) == {"text_not_string", "broken_json", "ok"}


def test_dead_letters_show_as_much_text_as_could_be_read(tmp_path: Path) -> None:
    content = lines({"text": 5}, {"text": "a\ud800b"}, {"text": "t", "body": 7}, {"body": "b"}) + b"{\n"
    outcomes = read_unchecked(tmp_path / "a.jsonl", content, text_columns=("text", "body"), id_column="id")
    shown = [outcome.text for outcome in outcomes if isinstance(outcome, DeadLetter)]
    assert shown == ["5", "a\ufffdb", "t\n7", "b", "{"]


@pytest.mark.parametrize(
    ("value", "doc_id"),
    [
        ("k", "k"),
        (7, "7"),
        (2**70, str(2**70)),
        ("", None),
        (None, None),
        (1.5, None),
        (True, None),
        (["k"], None),
    ],
)
def test_ids_are_strings_or_integers(tmp_path: Path, value: object, doc_id: str | None) -> None:
    (outcome,) = read_unchecked(tmp_path / "a.jsonl", lines({"text": "t", "id": value}), id_column="id")
    assert reasons([outcome]) == ["missing_id" if doc_id is None else "ok"]
    assert ids([outcome]) == [doc_id or "a.jsonl#0"]


def test_parts_that_are_null_or_empty_are_left_out(tmp_path: Path) -> None:
    content = lines({"a": "x", "b": None}, {"b": "y", "a": ""}, {"a": "x", "b": "y"}, {"a": None})
    outcomes = read_unchecked(tmp_path / "a.jsonl", content, text_columns=("a", "b"), text_separator="-")
    assert texts(outcomes) == ["x", "y", "x-y", ""]


def test_types_of_kept_columns_are_taken_from_the_first_rows(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "i": 1, "f": 1, "b": True, "s": "x", "mixed": 1, "nested": {"k": [1]}, "none": None},
        {"text": "b", "i": None, "f": 2.5, "b": False, "s": "y", "mixed": "x", "nested": [2], "none": None},
    ]
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    keep = ("i", "f", "b", "s", "mixed", "nested", "none")
    summary = inspect_input(ReadOptions((str(tmp_path / "a.jsonl"),), keep_columns=keep))
    kinds = [pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.string(), pa.string(), pa.string()]
    assert summary.kept_schema == pa.schema(list(zip(keep, kinds, strict=True)))
    outcomes = read_checked(tmp_path / "a.jsonl", keep_columns=keep)
    assert [outcome.columns for outcome in outcomes if isinstance(outcome, Document)] == [
        (1, 1.0, True, "x", "1", '{"k": [1]}', None),
        (None, 2.5, False, "y", "x", "[2]", None),
    ]


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (pa.int64(), 5.0, 5),
        (pa.int64(), 5.5, None),
        (pa.int64(), "5", None),
        (pa.int64(), 2**63, None),
        (pa.int64(), True, None),
        (pa.float64(), 5, 5.0),
        (pa.float64(), 10**400, None),
        (pa.float64(), "x", None),
        (pa.bool_(), 1, None),
        (pa.string(), 5, "5"),
        (pa.string(), {"é": [None]}, '{"é": [null]}'),
    ],
)
def test_a_kept_value_fits_its_type_or_the_record_is_dead(
    tmp_path: Path, kind: pa.DataType, value: object, kept: object
) -> None:
    schema = pa.schema([("c", kind)])
    (outcome,) = read_unchecked(tmp_path / "a.jsonl", lines({"text": "t", "c": value}), kept=schema)
    if kept is None:
        assert reasons([outcome]) == ["column_type"]
        assert isinstance(outcome, DeadLetter)
        assert outcome.text == "t"
        assert f"kept as {kind}" in outcome.message
    else:
        assert isinstance(outcome, Document)
        assert outcome.columns == (kept,)
        assert pa.array(outcome.columns, kind).to_pylist() == [kept]


def test_half_a_surrogate_pair_in_a_kept_column_or_id_is_no_crash(tmp_path: Path) -> None:
    schema = pa.schema([("c", pa.string())])
    content = lines(
        {"text": "t", "c": "\ud800"}, {"text": "t", "c": ["\ud800"]}, {"text": "t", "id": "\ud800"}
    )
    assert reasons(read_unchecked(tmp_path / "a.jsonl", content, kept=schema)) == ["invalid_unicode"] * 2 + [
        "ok"
    ]
    outcomes = read_unchecked(tmp_path / "a.jsonl", content, id_column="id")
    assert (
        ids(outcomes)[2]
        == f"a.jsonl#{len(lines({'text': 't', 'c': chr(0xD800)}, {'text': 't', 'c': [chr(0xD800)]}))}"
    )
    assert reasons(outcomes)[2] == "invalid_unicode"


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
LINE = st.one_of(
    st.dictionaries(st.sampled_from(["text", "id", "c"]), VALUE).map(
        lambda value: json.dumps(value).encode()
    ),
    st.binary(max_size=20),
    st.text(alphabet='{}[]":,textd8\\u ', max_size=20).map(str.encode),
)


@settings(max_examples=examples(400), deadline=None)
@given(content=st.lists(LINE, max_size=6).map(b"\n".join), split_bytes=st.integers(1, 40))
def test_hostile_lines_become_documents_or_reasons_whatever_the_spans(
    content: bytes, split_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, schema = Path(folder, "a.jsonl"), pa.schema([("c", pa.int64())])
        outcomes = read_unchecked(path, content, kept=schema)
        assert read_unchecked(path, content, kept=schema, split_bytes=split_bytes) == outcomes
    stripped = content.removeprefix(b"\xef\xbb\xbf")
    assert len(outcomes) == sum(bool(line) and not line.isspace() for line in stripped.split(b"\n"))
    assert len(set(ids(outcomes))) == len(outcomes)
    for outcome in outcomes:
        assert isinstance(outcome, Document | DeadLetter)
        assert (outcome.text or "").encode() is not None


def test_integers_that_no_float_can_hold_keep_their_digits(tmp_path: Path) -> None:
    large = 2**53 + 1
    write(tmp_path, a_jsonl=[{"text": "a", "k": large}, {"text": "b", "k": 0.5}])
    write(tmp_path, b_jsonl=[{"text": "a", "k": large}, {"text": "b", "k": 1}])
    write(tmp_path, c_jsonl=[{"text": "a", "k": 2**53}, {"text": "b", "k": 0.5}])
    expected = {"a": (str(large), "0.5"), "b": (large, 1), "c": (2.0**53, 0.5)}
    for name, values in expected.items():
        outcomes = read_checked(tmp_path / f"{name}.jsonl", text_columns=("text",), keep_columns=("k",))
        assert tuple(outcome.columns[0] for outcome in outcomes if isinstance(outcome, Document)) == values
    summary = inspect(f"{tmp_path}/*", text_columns=("text",), keep_columns=("k",))
    assert summary.kept_schema.field("k").type == pa.string()
    late = lines({"text": "a", "k": 0.5}, {"text": "b", "k": large}, {"text": "c", "k": 2**60})
    outcomes = read_unchecked(tmp_path / "d.jsonl", late, kept=pa.schema([("k", pa.float64())]))
    assert reasons(outcomes) == ["ok", "column_type", "ok"]


def test_a_number_beyond_floats_is_not_infinity(tmp_path: Path) -> None:
    """1e400 keeps its spelling where the head shows it, and is one dead letter where it comes late."""
    (tmp_path / "a.jsonl").write_text('{"text": "a", "k": 1e400}\n{"text": "b", "k": Infinity}\n')
    outcomes = read_checked(tmp_path / "a.jsonl", text_columns=("text",), keep_columns=("k",))
    assert [o.columns for o in outcomes if isinstance(o, Document)] == [("1e400",), ("Infinity",)]
    late = b'{"text": "a", "k": 0.5}\n{"text": "b", "k": -1E400}\n{"text": "c", "k": Infinity}\n'
    outcomes = read_unchecked(tmp_path / "b.jsonl", late, kept=pa.schema([("k", pa.float64())]))
    assert reasons(outcomes) == ["ok", "column_type", "ok"]

"""JSON files: arrays, and objects one after another; a broken record costs no other."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import DeadFile, DeadLetter
from beam_jobs.pipeline.read.formats import json_values
from tests.support.examples import examples
from tests.support.runs.reading import COMPRESS, ids, read_checked, read_unchecked, reasons, refused, texts

ROWS: list[dict[str, Any]] = [
    {"text": 'a "x" \\ {[', "n": 1},
    {"text": "é😀"},
    {"text": "]}", "o": {"b": [1]}},
]


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_WINDOW_CHARS", 7)


def layouts(rows: list[dict[str, Any]]) -> list[str]:
    return [
        json.dumps(rows),
        json.dumps(rows, indent=2, ensure_ascii=False),
        "\ufeff \n" + json.dumps(rows, ensure_ascii=False) + "\n",
        "\n".join(json.dumps(row, indent=1) for row in rows),
        "".join(json.dumps(row) for row in rows),
        "\n\n".join(map(json.dumps, rows)) + "\n",
    ]


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["n", "o.p", "é"]), st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
            lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(st.text(), one, max_size=3)),
            max_leaves=4,
        )),
        max_size=4,
    )
)  # fmt: skip
def test_every_layout_holds_the_same_records(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    rows = [{"text": f"row {number}", **row} for number, row in enumerate(rows)]
    path = tmp_path_factory.mktemp("json") / "a.json"
    for layout in layouts(rows):
        outcomes = read_unchecked(path, layout.encode())
        assert texts(outcomes) == [row["text"] for row in rows]
        assert ids(outcomes) == [f"a.json#{number}" for number in range(len(rows))]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("layout", layouts(ROWS))
def test_compressed_and_nested(tmp_path: Path, compression: str, layout: str) -> None:
    path = tmp_path / f"a.json.{compression}"
    path.write_bytes(COMPRESS[compression](layout.encode()))
    assert texts(read_checked(path)) == [row["text"] for row in ROWS]
    kept = read_checked(path, keep_columns=("n", "o.b"))
    assert [one.columns for one in kept if not isinstance(one, DeadLetter | DeadFile)] == [
        (1, None), (None, None), (None, "[1]")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ('{"text": nope}', "broken_json"),
        ('{"text": "x" "y": {"z": [1]}}', "broken_json"),
        ('{"text": "unclosed\n}', "broken_json"),
        ('{"text": "\\q"}', "broken_json"),
        ('{"text": "a", "text": "b"}', "broken_json"),
        ("5", "broken_json"),
        ('"text"', "broken_json"),
        ("[]", "broken_json"),
        ("", "broken_json"),
        ('{"text": ' + "9" * 5_000 + "}", "broken_json"),
        ('{"text": ' + "[" * 50_000 + "]" * 50_000 + "}", "broken_json"),
        ('{"text": "' + "x" * 300_000 + '"}', "too_large"),
        ('{"text": "\\ud800"}', "invalid_unicode"),
        ('{"text": "\udce9"}', "invalid_encoding"),  # a byte that is not UTF-8
    ],
)
def test_one_broken_record_costs_no_other(tmp_path: Path, element: str, reason: str) -> None:
    content = f'[{{"text": "a"}}, {element}, {{"text": "b"}}]'.encode("utf-8", "surrogateescape")
    outcomes = read_unchecked(tmp_path / "a.json", content, max_document_bytes=200_000)
    assert reasons(outcomes) == ["ok", reason, "ok"]
    assert isinstance(outcomes[1], DeadLetter)
    if reason == "too_large":
        assert outcomes[1].num_bytes == len(element)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        (" \n", []),
        ("[]", []),
        ('[{"text": "a"}', ["ok", "truncated"]),
        ('[{"text": "a"},', ["ok", "truncated"]),
        ('[{"text": "a"}, {"te', ["ok", "truncated"]),
        ("[", ["truncated"]),
        ('[{"text": "a"} {"text": "b"}]', ["ok", "broken_json"]),
        ('[{"text": "a"}] [', ["ok", "broken_json"]),
        ('{"text": "a"}}', ["ok", "broken_json"]),
        ('{"text": "a"} {"text"', ["ok", "broken_json"]),
        ('{"text": "a"}\n{"text": \n{"text": "b"}\n', ["ok", "broken_json", "ok"]),
    ],
)
def test_broken_files(tmp_path: Path, content: str, expected: list[str]) -> None:
    assert reasons(read_unchecked(tmp_path / "a.json", content.encode())) == expected


def test_a_truncated_compressed_array_keeps_what_was_read(tmp_path: Path) -> None:
    rows = [{"text": f"{number:09}" * 9} for number in range(2_000)]
    data = gzip.compress(json.dumps(rows).encode(), 0)
    outcomes = read_unchecked(tmp_path / "a.json.gz", data[: len(data) // 2])
    assert reasons(outcomes)[-1] == "truncated"
    assert texts(outcomes) == [row["text"] for row in rows[: len(outcomes) - 1]]
    assert len(outcomes) > 950  # all that the bytes hold, but the record that is cut


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "shift_jis", "gb18030"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = {"cp1252": "Ärger", "shift_jis": "これ", "gb18030": "今天"}.get(encoding, "é😀")
    content = json.dumps([{"text": text}] * 3, ensure_ascii=False).encode(encoding)
    assert texts(read_unchecked(tmp_path / "a.json", content, encoding=encoding)) == [text] * 3


def test_other_files_are_found_before_work(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("one\ntwo\n")
    assert "2 of its first 2 records are none" in refused(path)
    path.write_bytes(b"PAR1x")
    assert "--input_format parquet" in refused(path)
    path.write_bytes(gzip.compress(b"[]"))
    assert "end in .gz" in refused(path)

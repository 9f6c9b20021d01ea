"""The same table has the same fate in every format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import Document
from beam_jobs.errors import JobError
from tests.support.runs.jobs import run_job
from tests.support.runs.reading import read_checked
from tests.support.runs.tables import FORMATS, write_table

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "text", "more", "spelled")),
        *(("n", pa.int64()), ("x", pa.float64()), ("b", pa.bool_())),
    ]
)
NUM_TABLES = 4_000 if os.environ.get("TESTS_NIGHTLY") == "yes" else 40
STATED = (("spelled", "int64"), ("n", "int64"), ("x", "float64"), ("b", "bool"))
_TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "a,b", 'say "x"', "two\nlines", "cr\r\nlf", "é😀", "\0", "null", "NaN"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
# Text formats limit the whole record and not just its text, so only the text of a record with an id is large.
_LARGE = st.just({"key": "k", "text": "x" * 500})
ROWS = st.lists(
    _LARGE
    | st.fixed_dictionaries(
        {
            "key": st.one_of(st.none(), st.sampled_from(["", "k", "é"])),
            "text": _TEXTS,
            "more": _TEXTS,
            "spelled": st.one_of(st.none(), st.sampled_from(["", "7", "-07", "1.5", "x", "9" * 20])),
            "n": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            "x": st.one_of(st.none(), st.floats(allow_nan=False)),
            "b": st.one_of(st.none(), st.booleans()),
        }
    ),
    max_size=5,
)


def fate(path: Path, options: dict[str, Any]) -> list[Any]:
    """What becomes of each row: its text and columns, or why it is dead; or the error that ends the run."""
    try:
        outcomes = read_checked(path, **options)
    except JobError as error:
        return [type(error).__name__, error.exit_code]
    return [
        (outcome.text, outcome.columns, outcome.doc_id if options["id_column"] else None)
        if isinstance(outcome, Document)
        else outcome.reason
        for outcome in outcomes
    ]


@pytest.mark.timeout(1500)  # all 2,000 start a process for each ORC file
@settings(max_examples=NUM_TABLES, deadline=None)
@given(
    rows=ROWS,
    id_column=st.sampled_from([None, "key"]),
    policy=st.sampled_from(["blank", "dead_letter", "fail"]),
    text_columns=st.sampled_from([("text",), ("text", "more")]),
)
def test_the_same_table_has_the_same_fate(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    id_column: str | None,
    policy: str,
    text_columns: tuple[str, ...],
) -> None:
    paths = write_table(tmp_path_factory.mktemp("tables"), rows, SCHEMA)
    options: dict[str, Any] = {
        "id_column": id_column,
        "text_columns": text_columns,
        "keep_columns": tuple(name for name, _ in STATED),
        "column_types": STATED,
        "on_missing_text": policy,
        "max_document_bytes": 400,
    }
    found = {name: fate(path, options) for name, path in paths.items()}
    assert all(one == found["csv"] for one in found.values()), found
    unstated = {name: fate(path, options | {"column_types": ()}) for name, path in paths.items()}
    del unstated["csv"]  # where every column is text
    assert all(one == unstated["json"] for one in unstated.values()), unstated


@pytest.mark.slow
def test_the_same_table_has_the_same_run(tmp_path: Path, tiny_bundle: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"key": "a", "text": "hello", "spelled": "7", "n": 1, "x": 0.5, "b": True},
        {"key": "b", "text": None, "spelled": "8"},
        {"key": None, "text": "no id", "spelled": "9"},
        {"key": "d", "text": "not a number", "spelled": "x"},
    ]
    paths = write_table(tmp_path, rows, SCHEMA)
    flags = [
        "--text_column",
        "text",
        "--id_column",
        "key",
        "--keep_columns",
        "spelled,n,x,b",
        "--column_types",
    ]
    flags.append(",".join(f"{name}={kind}" for name, kind in STATED))
    runs = [run_job(tmp_path / name, tiny_bundle, "--input", path, *flags) for name, path in paths.items()]
    assert [run.exit_code for run in runs] == [3] * len(FORMATS)
    for run in runs:
        assert run.rows.drop_columns("source").equals(runs[0].rows.drop_columns("source"))
        assert sorted(letter["reason"] for letter in run.dead) == ["blank_text", "column_type", "missing_id"]

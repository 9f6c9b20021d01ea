"""Documents without text: one policy, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import Document
from beam_jobs.errors import JobError
from tests.support.examples import examples
from tests.support.runs.reading import csv_bytes, read_checked, reasons, texts, write

Row = tuple[str | None, str | None]
_WORDS = st.one_of(st.none(), st.sampled_from(["", " ", "a", "b,c", 'd"', "e\nf", "é"]))


def as_every_format(folder: Path, rows: list[Row]) -> None:
    """Writes the same table as CSV, TSV, JSON Lines and Parquet; CSV has no nulls."""
    table = pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate("ab")})
    objects = [{"a": one, "b": other} for one, other in rows]
    fields = [("a", "b"), *((one or "", other or "") for one, other in rows)]
    write(folder, t_parquet=table, t_jsonl=objects, t_csv=csv_bytes(fields))
    write(folder, t_tsv=csv_bytes(fields, delimiter="\t"))


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=6).filter(lambda rows: any(map(any, rows)))
)
@pytest.mark.parametrize("policy", ["blank", "dead_letter"])
def test_the_same_table_has_the_same_fate(
    tmp_path_factory: pytest.TempPathFactory, policy: str, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    as_every_format(folder, rows)
    options: dict[str, Any] = {"text_columns": ("a", "b"), "text_separator": "|", "on_missing_text": policy}
    expected = ["|".join(part for part in row if part) for row in rows]
    if policy == "dead_letter":
        expected = [text for text in expected if text]
    for name in ("t.parquet", "t.jsonl", "t.csv", "t.tsv"):
        outcomes = read_checked(folder / name, **options)
        assert texts(outcomes) == expected
        assert len(outcomes) == len(rows)
        assert {reason for reason in reasons(outcomes) if reason != "ok"} <= {"missing_text"}


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.csv", "t.txt"])
def test_a_run_can_fail_at_the_first_document_without_text(tmp_path: Path, name: str) -> None:
    as_every_format(tmp_path, [("x", "y"), (None, "")])
    write(tmp_path, t_txt="x\n\n")
    columns = {} if name == "t.txt" else {"text_columns": ("a", "b")}
    with pytest.raises(JobError, match=rf"Document {name}#\d+ of .*{name} has no text"):
        read_checked(tmp_path / name, on_missing_text="fail", **columns)
    assert (
        reasons(read_checked(tmp_path / name, on_missing_text="dead_letter", **columns))[1] == "missing_text"
    )
    assert isinstance(read_checked(tmp_path / name, **columns)[1], Document)

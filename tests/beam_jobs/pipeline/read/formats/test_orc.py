"""ORC: columns, positions, and files that are damaged or change while they are read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import orc

from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, Document
from beam_jobs.job.forecast.sample import sample_input
from beam_jobs.pipeline.read.files.open import StoredFile
from beam_jobs.pipeline.read.formats import orc as read_orc
from beam_jobs.pipeline.read.inspect import inspect_input
from beam_jobs.pipeline.read.splits import read_first, read_split
from beam_jobs.pipeline.read.types import FileSplit
from tests.support.runs.reading import ids, read_checked, read_unchecked, reasons, refused, texts

TABLE = pa.table(
    {
        "text": ["a", None, "c"],
        "n": pa.array([1, 2, None], pa.int32()),
        "s": [{"b": "x"}, None, {"b": "y"}],
        "l": [[1], [], None],
    }
)


def test_rows_positions_and_types(tmp_path: Path) -> None:
    path = tmp_path / "a.orc"
    orc.write_table(TABLE, path)
    outcomes = read_checked(path, text_columns=("text",), keep_columns=("n", "s", "l", "s.b"))
    assert ids(outcomes) == ["a.orc#0", "a.orc#1", "a.orc#2"]
    assert [one.columns for one in outcomes if isinstance(one, Document)] == [
        (1, {"b": "x"}, [1], "x"),
        (2, None, [], None),
        (None, {"b": "y"}, None, "y"),
    ]
    assert texts(read_checked(path, text_columns=("s.b",))) == ["x", "", "y"]


def test_stripes_are_read_in_batches_and_all_bytes_are_counted(tmp_path: Path) -> None:
    path, sizes = tmp_path / "a.orc", list[int]()
    rows = [f"row {number} " + "x" * 500 for number in range(20_000)]
    orc.write_table(pa.table({"text": rows}), path, stripe_size=1 << 16)
    assert orc.ORCFile(path).nstripes > 1
    options = ReadOptions((str(path),))
    summary = inspect_input(options)
    outcomes = list(read_first(summary.files, summary.plan(options), 30_000, sizes.append))
    assert texts(outcomes) == rows
    assert ids(outcomes)[-1] == "a.orc#19999"
    assert sum(sizes) == path.stat().st_size


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.orc"
    orc.write_table(TABLE, path)
    data = path.read_bytes()
    for broken in (b"", b"x", data[:-1], data[3:], data[: len(data) // 2]):
        assert reasons(read_unchecked(path, broken)) == ["damaged"]
    assert reasons(read_unchecked(path, data, text_columns=("nosuch",))) == ["missing_column"]
    assert reasons(read_unchecked(path, data, text_columns=("n",))) == ["column_type"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.orc"
    orc.write_table(TABLE, path)
    options = ReadOptions((str(path),), text_columns=("text",))
    summary = inspect_input(options)
    path.write_bytes(path.read_bytes()[:50])
    (outcome,) = read_split(FileSplit(summary.files[0]), summary.plan(options))
    assert isinstance(outcome, DeadFile)
    assert outcome.reason in ("changed", "damaged")


def test_a_failure_of_the_storage_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Failing(StoredFile):
        def readinto(self, buffer: Any, /) -> int:
            raise ConnectionError(f"storage is not there for {len(buffer)} bytes")

    path = tmp_path / "a.orc"
    orc.write_table(TABLE, path)
    content = path.read_bytes()
    monkeypatch.setattr(read_orc, "StoredFile", Failing)
    with pytest.raises(ConnectionError, match="storage is not there"):
        read_unchecked(path, content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_columns": ("n",)}, "text is expected"),
        ({"text_columns": ("text",), "id_column": "l"}, "strings or integers are expected"),
        ({"text_columns": ("s.c",)}, "is not a column"),
        ({"text_columns": ("text",), "encoding": "latin-1"}, "always UTF-8"),
    ],
)
def test_flags_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.orc"
    orc.write_table(TABLE, path)
    assert message in refused(path, **options)


def test_a_forecast_takes_the_number_of_rows_from_the_file(tmp_path: Path) -> None:
    """Bytes of columns that are not read say nothing about it."""
    path, draw = tmp_path / "a.orc", random.Random(0)
    table = {"text": ["short"] * 60_000, "other": [draw.randbytes(200) for _ in range(60_000)]}
    orc.write_table(pa.table(table), path)
    options = ReadOptions((str(path),))
    summary = inspect_input(ReadOptions((str(path),), text_columns=("text",)))
    sample = sample_input(summary, options)
    assert (sample.num_total, sample.is_whole) == (60_000, False)

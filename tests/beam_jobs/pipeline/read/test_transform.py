"""ReadDocuments, and what holds for reading whatever the format."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.base import metrics
from beam_jobs.base.config import ReadOptions
from beam_jobs.base.records import DeadFile, DeadLetter, Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read import transform
from beam_jobs.pipeline.read.inspect import inspect_input
from beam_jobs.pipeline.read.splits import read_first
from beam_jobs.pipeline.read.transform import ReadDocuments
from tests.support.runs.reading import COMPRESS, csv_bytes, ids, read_checked, reasons, texts

ODD_TEXTS = [
    "x",
    "😀👩‍👩‍👧",
    "עברית",
    "a\0b",
    "lone\rreturn",
    "[CLS] [SEP] [MASK]",
    "word " * 20_000,
    "",
    " ",
    "e\u0301",
]


def write_all_formats(folder: Path, rows: list[str]) -> None:
    table = pa.table({"text": rows})
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()
    pq.write_table(table, folder / "a.parquet", row_group_size=3)
    plain = {
        "txt": "".join(f"{row}\n" for row in rows).encode(),
        "jsonl": lines,
        "csv": csv_bytes([["text"], *([row] for row in rows)]),
        "tsv": csv_bytes([["text"], *([row] for row in rows)], delimiter="\t"),
    }
    for name, content in plain.items():
        (folder / f"a.{name}").write_bytes(content)
        for compression, compress in COMPRESS.items():
            (folder / f"a.{name}.{compression}").write_bytes(compress(content))


def test_every_format_gives_the_same_texts(tmp_path: Path) -> None:
    write_all_formats(tmp_path, ODD_TEXTS)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 17
    for path in paths:
        assert texts(read_checked(path)) == ODD_TEXTS, path.name


def test_the_pipeline_gives_what_the_functions_give(tmp_path: Path) -> None:
    rows = ODD_TEXTS[:6]
    write_all_formats(tmp_path, rows)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": 5}\n{\n{"text": "good"}\n')
    (tmp_path / "c.jsonl.gz").write_bytes(COMPRESS["gz"](b'{"text": "kept"}\n' * 9)[:-2])
    expected = read_checked(f"{tmp_path}/*")
    assert Counter(reasons(expected)) == {
        "ok": 17 * len(rows) + 1 + 9,
        "text_not_string": 1,
        "broken_json": 1,
        "truncated": 1,
    }
    for redistribute in (False, True):
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            found = pipeline | ReadDocuments(
                ReadOptions((f"{tmp_path}/*",)), redistribute=redistribute, label="ReadIt"
            )
            assert_that(found.documents, equal_to(of_kind(Document, expected)), label="Documents")
            assert_that(found.dead_letters, equal_to(of_kind(DeadLetter, expected)), label="DeadLetters")
            assert_that(found.dead_files, equal_to(of_kind(DeadFile, expected)), label="DeadFiles")


def of_kind(kind: type, outcomes: list[Any]) -> list[Any]:
    return [outcome for outcome in outcomes if isinstance(outcome, kind)]


def test_more_files_than_a_job_request_holds_are_matched_by_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"one\ntwo {number}\n")
    monkeypatch.setattr(transform, "MAX_LISTED_FILES", 4)
    options = ReadOptions((f"{tmp_path}/[01].txt", f"{tmp_path}/[2-9].txt"))
    expected = read_checked(*options.patterns)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | ReadDocuments(options)
        assert_that(found.documents, equal_to(expected))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | ReadDocuments(ReadOptions(options.patterns, limit=7))
        assert_that(found.documents, equal_to(expected[:7]))


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 8, 100])
def test_a_limit_takes_the_first_documents_in_order(tmp_path: Path, limit: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a0"}\n{\n{"text": "a2"}\n')
    (tmp_path / "b.jsonl.gz").write_bytes(COMPRESS["gz"](b'{"text": "b0"}\n')[:-1])
    (tmp_path / "c.jsonl").write_bytes(b"".join(b'{"text": "c%d"}\n' % number for number in range(4)))
    options = ReadOptions((f"{tmp_path}/*",), limit=limit)
    summary = inspect_input(options)
    outcomes = list(read_first(summary.files, summary.plan(options), limit))
    everything = read_checked(f"{tmp_path}/*")
    assert outcomes == everything[: len(outcomes)]
    assert len(ids(outcomes)) == min(limit, 8)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | ReadDocuments(options, summary, redistribute=True)
        assert_that(found.documents, equal_to(of_kind(Document, outcomes)))


_describe_scores: Counter[str] = Counter()


class Listener:
    """Adds up what it is told, wherever its pickled copies are in this process."""

    def add(self, name: str, count: int, /) -> None:
        _describe_scores[name] += count


def test_progress_and_metrics_add_up_to_the_files(tmp_path: Path) -> None:
    write_all_formats(tmp_path, ["some text"] * 2000)
    options = ReadOptions((f"{tmp_path}/*",))
    summary = inspect_input(options)
    _describe_scores.clear()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | ReadDocuments(options, summary, progress=Listener())
    result = pipeline.run()
    result.wait_until_finish()
    assert _describe_scores == {metrics.BYTES_READ: summary.total_bytes}
    counters = {
        counter.key.metric.name: counter.committed for counter in result.metrics().query()["counters"]
    }
    assert counters[metrics.BYTES_READ] == summary.total_bytes
    assert counters[metrics.DOCUMENTS_READ] == 17 * 2000


def test_input_is_checked_when_the_pipeline_is_built(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No file matches"):
        ReadDocuments(ReadOptions((f"{tmp_path}/*.txt",)))


def test_the_steps_pickle_by_reference(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    options = ReadOptions((f"{tmp_path}/*",))
    plan = inspect_input(options).plan(options)
    for step in (transform._ReadSplitDoFn(plan, Listener()), transform._ReadFirstDoFn(plan, 1, None)):
        copy = pickle.loads(pickle.dumps(step))
        assert type(copy) is type(step)


CANARY = "canary"
BAD_LINES = {
    "a.jsonl": [
        b'{"text": "canary", "id": }',
        b'{"text": ["canary"]}',
        b'{"text": "canary\\ud800"}',
        b'{"text": "canary\xff"}',
        b'"canary"',
        b'{"text": "fine", "n": "canary"}',
        b'{"text": "' + b"canary" * 100 + b'"}',
        b'{"text": "canary \\q"}',
        b'{"canary": 1}',
    ],
    "b.csv": [
        b'"canary"canary,1',
        b"canary,canary,1",
        b"canary\xff,1",
        b"canary" * 100 + b",1",
        b"can\rary,canary",
    ],
    "c.csv": [b'"canary,1', b"canary,2"],
    "d.csv.gz": [b"canary,1"],
}


@pytest.mark.parametrize("no_text", [True, False])
def test_without_text_nothing_of_the_input_is_in_what_is_dead(tmp_path: Path, no_text: bool) -> None:
    for name, lines in BAD_LINES.items():
        # The types of kept columns come from the first 1,000 rows.
        head = b"text,n\n" if ".csv" in name else b'{"text": "fine", "n": 1}\n' * 1000
        content = head + b"\n".join(lines) + b"\n"
        (tmp_path / name).write_bytes(COMPRESS["gz"](content)[:-3] if name.endswith("gz") else content)
    table = pa.table({"text": ["canary" * 100, None], "n": ["canary", "canary"]})
    pq.write_table(table, tmp_path / "e.parquet")
    shown = ""
    for name in (*BAD_LINES, "e.parquet"):
        kept = {"keep_columns": ("n",)} if name != "c.csv" else {}
        outcomes = read_checked(
            tmp_path / name, no_text=no_text, max_document_bytes=300, on_missing_text="dead_letter", **kept
        )
        dead = [outcome for outcome in outcomes if not isinstance(outcome, Document)]
        assert len(dead) >= {"a.jsonl": 9, "b.csv": 5}.get(name, 1)
        shown += repr(dead)
    assert (CANARY in shown) == (not no_text)

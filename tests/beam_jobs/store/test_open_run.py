"""``open_run``: a run's rows through its manifest, local and gs://."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import beam_jobs
from beam_jobs.errors import JobError, UsageError
from beam_jobs.report.page import make_page
from beam_jobs.runs.__main__ import main as runs
from beam_jobs.runs.listing import list_runs
from beam_jobs.store.batches import read_batches, take_rows
from beam_jobs.store.dataset import open_run
from beam_jobs.store.finished_run import find_run
from tests.beam_jobs.pipeline.read.test_read_gcs import Storage, storage
from tests.support.runs.jobs import PROJECT, capture
from tests.support.runs.made_runs import make_run

__all__ = ["storage"]

VECTORS = np.arange(20, dtype=np.float32).reshape(5, 4)
SHARDS = [
    {"ids": ["a", "b", "c"], "vectors": VECTORS[:3], "year": [1, 2, 3]},
    {"ids": ["d", "e"], "vectors": VECTORS[3:], "year": [4, 5]},
]


def test_a_run_and_a_root_that_means_its_latest(tmp_path: Path) -> None:
    make_run(tmp_path, "old", [{"ids": ["z"], "vectors": VECTORS[:1]}])
    run = make_run(tmp_path, "new", SHARDS)
    for place in (run, str(run), f"{run}/", tmp_path, str(tmp_path)):
        assert beam_jobs.open_run(place).to_table()["doc_id"].to_pylist() == list("abcde")
    assert open_run(tmp_path / "old").to_table()["doc_id"].to_pylist() == ["z"]


def test_only_files_of_the_manifest_are_read(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS)
    pq.write_table(pq.read_table(run / "embeddings"), run / "embeddings" / "more.parquet")
    dataset = open_run(run)
    assert isinstance(dataset, ds.Dataset)
    assert dataset.count_rows() == 5
    assert dataset.to_table(filter=ds.field("year") > 3)["doc_id"].to_pylist() == ["d", "e"]


@pytest.mark.parametrize(("vector_dtype", "kind"), [("float32", pa.float32()), ("float16", pa.float16())])
def test_vectors_of_fixed_size(tmp_path: Path, vector_dtype: str, kind: pa.DataType) -> None:
    make_run(tmp_path, "run", SHARDS, vector_dtype=vector_dtype)
    assert open_run(tmp_path).schema.field("embedding").type == pa.list_(pa.field("element", kind, False))
    table = open_run(tmp_path, fixed_size=True).to_table()
    assert table.schema.field("embedding").type == pa.list_(pa.field("element", kind, False), 4)
    found = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(found.reshape(5, 4), VECTORS)


def test_unfinished_failed_and_absent_runs_are_refused_with_the_reason(tmp_path: Path) -> None:
    make_run(tmp_path, "failed", SHARDS, failure="3 of 5 documents are dead letters")
    with pytest.raises(UsageError, match="failed, so it has no result: 3 of 5 documents are dead letters"):
        open_run(tmp_path / "failed")
    (tmp_path / "going" / "_staging").mkdir(parents=True)
    (tmp_path / "going" / "_staging" / "attempt").write_text("a")
    with pytest.raises(UsageError, match=r"going is not finished: it has no manifest\.json"):
        open_run(tmp_path / "going")
    with pytest.raises(UsageError, match=r"neither a run .* nor a root of finished runs"):
        open_run(tmp_path)
    (tmp_path / "latest.json").write_text('{"run_id": "gone"}')
    with pytest.raises(UsageError, match=r"names .*gone, which has no manifest"):
        open_run(tmp_path)
    (tmp_path / "failed" / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(JobError, match="format version 99"):
        open_run(tmp_path / "failed")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS)
    (run / "embeddings" / "embeddings-00000-of-00002.parquet").unlink()
    with pytest.raises(JobError, match="listed in the run's manifest but does not exist"):
        open_run(run)


def test_a_run_without_rows_is_an_empty_dataset(tmp_path: Path) -> None:
    make_run(tmp_path, "run", [])
    dataset = open_run(tmp_path, fixed_size=True)
    assert dataset.count_rows() == 0
    assert dataset.schema.names[:2] == ["doc_id", "source"]


def test_rows_are_found_again_by_their_place(tmp_path: Path) -> None:
    run = find_run(str(make_run(tmp_path, "run", SHARDS)))
    places = {}
    for part in read_batches(run, ["doc_id"], batch_rows=1):
        places[part.rows.column("doc_id")[0].as_py()] = (part.file_index, int(part.row_numbers[0]))
    assert places == {"a": (0, 0), "b": (0, 1), "c": (0, 2), "d": (1, 0), "e": (1, 1)}
    rows = take_rows(run, [places["e"], places["c"], places["a"]], ["doc_id", "year"])
    assert rows == [{"doc_id": "e", "year": 5}, {"doc_id": "c", "year": 3}, {"doc_id": "a", "year": 1}]


def test_opening_needs_neither_beam_nor_tensorflow(tmp_path: Path) -> None:
    make_run(tmp_path, "run", SHARDS)
    code = (
        f"import sys, beam_jobs; print(beam_jobs.open_run({str(tmp_path)!r}).count_rows(), "
        "{'apache_beam', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["5", "set()"]


def test_a_run_in_a_bucket(tmp_path: Path, storage: Storage) -> None:
    make_run(tmp_path, "run", SHARDS)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            storage.objects[f"out/{path.relative_to(tmp_path).as_posix()}"] = path.read_bytes()
    for place in ("gs://b/out", "gs://b/out/run/"):
        table = open_run(place, fixed_size=True).to_table()
        assert table["doc_id"].to_pylist() == list("abcde")
        vectors = table["embedding"].combine_chunks().flatten().to_numpy()
        np.testing.assert_array_equal(vectors.reshape(5, 4), VECTORS)
    (only,) = take_rows(find_run("gs://b/out"), [(1, 1)], ["doc_id"])
    assert only == {"doc_id": "e"}
    with pytest.raises(io.UnsupportedOperation, match="for reading only"):
        open_run("gs://b/out").filesystem.create_dir("gs://b/x")
    with pytest.raises(UsageError, match="neither a run"):
        open_run("gs://b/nowhere")
    assert not os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")


def test_runs_in_a_bucket_are_listed_and_checked(tmp_path: Path, storage: Storage) -> None:
    make_run(tmp_path, "run", SHARDS)
    (tmp_path / "going" / "_staging").mkdir(parents=True)
    (tmp_path / "going" / "_staging" / "attempt").write_text("a")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            storage.objects[f"out/{path.relative_to(tmp_path).as_posix()}"] = path.read_bytes()
    storage.objects["out/notes/a.txt"] = b"mine"
    states = {run.run_id: run.state for run in list_runs("gs://b/out/")}
    assert states == {"run": "finished", "going": "unfinished"}
    with capture() as (stdout, _):
        assert runs(["gs://b/out", "validate"]) == 0
    assert stdout.getvalue().splitlines()[-1] == "valid"
    assert make_page(find_run("gs://b/out")).count("<circle") == 5
    name = "out/run/embeddings/embeddings-00001-of-00002.parquet"
    storage.objects[name] = storage.objects[name][:-1] + b"x"
    with capture() as (stdout, _):
        assert runs(["gs://b/out", "validate"]) == 1
    assert "has the sha256" in stdout.getvalue()

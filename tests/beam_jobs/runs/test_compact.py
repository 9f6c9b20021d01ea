"""``runs RUN compact``: the same rows, fewer files, everything else as it was."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.pipeline.write.description import copied_manifest, without_files
from beam_jobs.runs.compact import plan_parts
from beam_jobs.store.dataset import open_run
from beam_jobs.store.finished_run import find_run
from beam_jobs.store.manifest import RunFile, RunManifest
from tests.beam_jobs.runs.test_runs import runs
from tests.beam_jobs.runs.test_validate import DEAD
from tests.support.runs.jobs import run_job, write_texts
from tests.support.runs.made_runs import make_run

RANDOM = np.random.default_rng(1)


def shards(number: int) -> list[dict[str, Any]]:
    """Writes small shards of windows: three rows, two documents."""
    return [
        {
            "ids": [f"{i}a", f"{i}a", f"{i}b"],
            "vectors": RANDOM.normal(size=(3, 4)),
            "window_index": [0, 1, 0],
            "kept": [i, i, None],
            "group": 3,
        }
        for i in range(number)
    ]


def test_rows_are_the_same_and_files_are_few(tmp_path: Path) -> None:
    first = make_run(tmp_path, "first", shards(30), dead=DEAD)
    code, stdout, stderr = runs(tmp_path, "compact", "--run_id", "second")
    assert code == 0, stderr
    assert "31 files" in stdout
    second = find_run(str(tmp_path))
    assert second.folder == str(tmp_path / "second")
    assert len(second.row_files) == 1
    key = [("doc_id", "ascending"), ("window_index", "ascending")]
    before, after = (open_run(tmp_path / name).to_table().sort_by(key) for name in ("first", "second"))
    assert after.equals(before)
    letters = [pq.read_table(tmp_path / name / "dead_letters") for name in ("first", "second")]
    assert letters[0].equals(letters[1])
    old, new = find_run(str(first)).manifest, second.manifest
    assert new.counts == old.counts
    assert new.config == {"compacted_from": "first"}
    metadata = pq.read_schema(second.path_of(second.row_files[0])).metadata
    assert metadata[b"beam_jobs.run_id"] == b"second"
    assert metadata[b"beam_jobs.bundle_digest"] == b"d" * 64
    assert runs(tmp_path, "validate")[0] == 0
    assert not (tmp_path / "second" / "_staging").exists()
    assert (tmp_path / "second" / "report.html").exists()
    assert find_run(str(first)).manifest == old


def test_a_real_run_keeps_its_documents_together(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["the cat sat on the mat", "", "a dog ran home"] * 20)
    flags = ("--input", source, "--id_column", "id", "--rows", "word", "--buffer_documents", "4")
    run = run_job(tmp_path / "out", tiny_bundle, *flags, "--max_shard_bytes", "4000")
    assert len(run.files("embeddings")) > 3
    code, _, stderr = runs(tmp_path / "out", "compact", "--output", tmp_path / "small")
    assert code == 0, stderr
    made = find_run(str(tmp_path / "small"))
    assert len(made.row_files) == 1
    assert made.manifest.timeline == run.manifest.timeline
    ids = open_run(tmp_path / "small").to_table()["doc_id"].to_pylist()
    changes = sum(one != other for one, other in pairwise(ids))
    assert changes == len(set(ids)) - 1
    assert runs(tmp_path / "small", "validate")[0] == 0


def test_large_files_are_cut(tmp_path: Path) -> None:
    make_run(
        tmp_path, "first", [{"ids": [str(i) for i in range(40)], "vectors": RANDOM.normal(size=(40, 4))}]
    )
    assert runs(tmp_path, "compact", "--max_shard_bytes", "2000")[0] == 0
    assert len(find_run(str(tmp_path)).row_files) > 1


def test_changed_bytes_are_not_copied(tmp_path: Path) -> None:
    first = make_run(tmp_path, "first", shards(3))
    path = first / "embeddings" / "embeddings-00001-of-00003.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:30] + bytes([data[30] ^ 1]) + data[31:])
    code, _, stderr = runs(tmp_path, "compact")
    assert code == 1
    assert "it was changed after the run was written" in stderr
    assert find_run(str(tmp_path)).manifest.run_id == "first"


def test_a_copy_of_an_old_run_does_not_hide_a_newer_one(tmp_path: Path) -> None:
    old = make_run(tmp_path, "old", shards(2))
    make_run(tmp_path, "new", shards(2))
    code, _, stderr = runs(old, "compact")
    assert code == 2
    assert "has a newer run, new" in stderr
    assert runs(old, "compact", "--output", tmp_path / "elsewhere")[0] == 0


def test_wrong_use(tmp_path: Path) -> None:
    make_run(tmp_path, "run", shards(1))
    assert "--runner is for compact" in runs(tmp_path, "list", "--runner", "x")[2]
    assert "neither a flag of this job nor of Beam" in runs(tmp_path, "compact", "--nothing", "1")[2]
    assert "unrecognized arguments: --nothing" in runs(tmp_path, "list", "--nothing")[2]
    assert "holds a finished run" in runs(tmp_path, "compact", "--run_id", "run")[2]


def test_a_copy_that_lacks_rows_fails(tmp_path: Path) -> None:
    first = find_run(str(make_run(tmp_path, "run", shards(3)))).manifest
    copied = copied_manifest(without_files(first), "b", "attempt", first.started_at, first.files[:2], 6)
    assert copied.failure_kind == "counts"
    assert "-3 rows of embeddings" in str(copied.failure)
    whole = copied_manifest(without_files(first), "b", "a", first.started_at, first.files, 6)
    assert whole.failure is None
    lost = copied_manifest(without_files(first), "b", "a", first.started_at, first.files, 5)
    assert "-1 documents" in str(lost.failure)
    assert isinstance(copied, RunManifest)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(10, 100))
def test_parts_hold_every_file_once_in_order(sizes: list[int], most: int) -> None:
    made = [
        RunFile(path=str(i), kind="embeddings", num_rows=1, num_bytes=number, sha256="")
        for i, number in enumerate(sizes)
    ]
    parts = list(plan_parts([(0, file) for file in made], most))
    assert [file for part in parts for _, file in part] == made
    for part in parts:
        assert len(part) == 1 or sum(file.num_bytes for _, file in part) <= most

"""Runs in a bucket: listed, validated, copied into fewer files, reported, opened, removed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.internal.gcp import auth

from beam_jobs.report.__main__ import main as report
from beam_jobs.store.dataset import open_run
from tests.beam_jobs.runs.test_runs import runs
from tests.beam_jobs.runs.test_validate import DEAD
from tests.support.cloud.fake_google import FakeGoogle, serving
from tests.support.runs.jobs import capture
from tests.support.runs.made_runs import make_run

ROOT = "gs://data/out"
SHARDS = [{"ids": [f"{at}a", f"{at}b"], "vectors": np.eye(2) + at} for at in range(5)]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGoogle]:
    """A storage with two finished runs, and what a crashed job left."""
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    make_run(tmp_path, "first", SHARDS, dead=DEAD, finished_at="2026-11-01T10:00:00+00:00")
    make_run(tmp_path, "second", SHARDS[:2], finished_at="2026-11-02T10:00:00+00:00")
    with serving() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        for path in tmp_path.rglob("*"):
            if path.is_file():
                server.storage.put(f"data/out/{path.relative_to(tmp_path)}", path.read_bytes())
        server.storage.put("data/out/crashed/_staging/embeddings-1.parquet", b"x" * 500)
        yield server


def names(google: FakeGoogle, run_id: str) -> list[str]:
    """Lists the objects of a run."""
    return sorted(key for key in google.storage.objects if key.startswith(f"data/out/{run_id}/"))


@pytest.mark.slow
def test_runs_are_listed_validated_and_opened(google: FakeGoogle) -> None:
    code, stdout, stderr = runs(ROOT, "list")
    assert code == 0, stderr
    assert {tuple(line.split()[:2]) for line in stdout.splitlines()[1:]} == {
        ("first", "finished"),
        ("second", "finished"),
        ("crashed", "unfinished"),
    }
    assert runs(f"{ROOT}/first", "validate")[0] == 0
    assert sorted(open_run(f"{ROOT}/second").to_table().column("doc_id").to_pylist()) == [
        "0a",
        "0b",
        "1a",
        "1b",
    ]
    shard = names(google, "second")[0]
    data = google.storage.objects[shard]
    google.storage.put(shard, data[:-1] + bytes([data[-1] ^ 1]))
    code, stdout, stderr = runs(f"{ROOT}/second", "validate")
    assert code != 0
    assert shard.rpartition("/")[2] in stdout + stderr


def test_a_copy_in_fewer_files_has_the_same_rows(google: FakeGoogle) -> None:
    code, _, stderr = runs(f"{ROOT}/second", "compact", "--run_id", "third")
    assert code == 0, stderr
    copied = [name for name in names(google, "third") if "/embeddings/" in name]
    assert len(copied) == 1
    table = pq.read_table(io.BytesIO(google.storage.objects[copied[0]])).sort_by("doc_id")
    before = open_run(f"{ROOT}/second").to_table().sort_by("doc_id")
    assert table.column("embedding").equals(before.column("embedding"))
    assert table.column("doc_id").equals(before.column("doc_id"))


def test_a_report_is_made_again(google: FakeGoogle) -> None:
    with capture() as (stdout, stderr):
        assert report([f"{ROOT}/first"]) == 0, stderr.getvalue()
    assert stdout.getvalue().strip() == f"{ROOT}/first/report.html"
    assert b"<html" in google.storage.objects["data/out/first/report.html"]


def test_old_and_crashed_runs_go_and_nothing_else(google: FakeGoogle) -> None:
    google.storage.put("data/out/notes/plan.txt", b"mine")
    code, stdout, stderr = runs(ROOT, "delete", "--keep", "1", "--min_age_hours", "0", "--yes")
    assert code == 0, stderr
    assert not names(google, "first"), stdout
    assert not names(google, "crashed"), stdout
    assert len(names(google, "second")) == 3
    assert google.storage.objects["data/out/notes/plan.txt"] == b"mine"

"""``latest.json`` and manifests: clocks that are ahead, damaged content, paths that lead elsewhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.incremental.previous_run import find_previous
from beam_jobs.runs.__main__ import main as runs
from beam_jobs.store import filesystem
from beam_jobs.store.dataset import open_run
from beam_jobs.store.files import local
from beam_jobs.store.latest import next_sequence, point_to, read_latest
from beam_jobs.store.manifest import RunManifest
from tests.support.cloud.fake_google import serving
from tests.support.cloud.fake_storage import FakeStorage
from tests.support.runs.jobs import run_job, write_texts
from tests.support.runs.made_runs import make_run

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BEFORE = Path(__file__).parents[2] / "data" / "before_layout"
SHARDS = [{"ids": ["a", "b"], "vectors": np.eye(2, 4)}]
DAMAGED = ["[]", "", "{}", '"run"', "7", '{"run_id": 7}', "[" * 9999]
FAR = '{"run_id": "far", "finished_at": "2099-01-01T00:00:00+00:00"}'
ELSEWHERE = ["../secret.parquet", "/etc/passwd", "embeddings/../../x", "a\\b", "gs://b/x", ""]
OUTSIDE = ["../other", "/etc", "a/b", "..", ".", "", "a\\b"]


def entry(sequence: int, minutes: int = 0, run_id: str = "run") -> RunManifest:
    """Returns the manifest of a run that finished some minutes after noon."""
    content = json.loads((BEFORE / "run" / "manifest.json").read_text())
    when = (NOON + timedelta(minutes=minutes)).isoformat()
    return RunManifest.model_validate(content | {"sequence": sequence, "finished_at": when, "run_id": run_id})


@pytest.mark.parametrize(
    ("first", "then", "latest"),
    [
        ((1, 0, "old"), (2, -600, "new"), "new"),  # the clock of the first was ahead
        ((2, 0, "new"), (1, 600, "old"), "new"),  # the old one was slow, or its clock is ahead
        ((1, 0, "a"), (1, 1, "b"), "b"),  # neither knew of the other: the same end in both orders
        ((1, 1, "b"), (1, 0, "a"), "b"),
        ((1, 0, "a"), (1, 0, "b"), "b"),
        ((1, 0, "b"), (1, 0, "a"), "b"),
    ],
)
def test_runs_are_in_the_order_in_which_they_knew_of_each_other(
    first: tuple[int, int, str], then: tuple[int, int, str], latest: str, tmp_path: Path
) -> None:
    for run in (first, then, first):
        point_to(str(tmp_path), entry(*run))
    found = read_latest(str(tmp_path))
    assert found is not None
    assert found.run_id == latest
    assert [path.name for path in tmp_path.iterdir()] == ["latest.json"]


def test_a_run_that_reads_the_pointer_too_early_cannot_put_itself_over_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers that look and write at the same time: only an update that nobody can come between is right."""
    started, read = threading.Barrier(4), local.read

    def slow(path: str) -> bytes | None:
        data = read(path)
        time.sleep(0.001)
        return data

    def work(sequence: int) -> None:
        started.wait()
        point_to(str(tmp_path), entry(sequence, -sequence))

    monkeypatch.setattr(local, "read", slow)
    for _ in range(5):
        (tmp_path / "latest.json").unlink(missing_ok=True)
        threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = read_latest(str(tmp_path))
        assert found is not None
        assert found.sequence == 4


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStorage]:
    with serving() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server.storage


def test_an_object_is_replaced_only_while_it_is_the_one_that_was_read(storage: FakeStorage) -> None:
    """Another run writes between the look and the write: the look is repeated."""
    seen: list[bytes | None] = []

    def change(data: bytes | None) -> bytes | None:
        seen.append(data)
        if len(seen) == 1:
            storage.put("b/out/latest.json", b"other")
        return b"ours" if data is None else None

    filesystem.update("gs://b/out/latest.json", change)
    assert seen == [None, b"other"]
    assert storage.objects["b/out/latest.json"] == b"other"
    filesystem.update("gs://b/out/latest.json", lambda data: data and data + b"!")
    assert storage.objects["b/out/latest.json"] == b"other!"


def test_the_next_run_has_the_next_number(tmp_path: Path) -> None:
    assert next_sequence(str(tmp_path)) == 1
    point_to(str(tmp_path), entry(7))
    assert next_sequence(str(tmp_path)) == 8
    (tmp_path / "latest.json").write_text("[]")
    assert next_sequence(str(tmp_path)) == 1


@pytest.mark.parametrize("content", [*DAMAGED, FAR, '{"run_id": "a", "finished_at": "soon"}'])
def test_the_next_run_replaces_what_is_wrong(content: str, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "latest.json").write_text(content)
    source = write_texts(tmp_path / "in.jsonl", ["the cat"])
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--no_report")
    assert run.exit_code == 0, run.stderr
    assert json.loads((tmp_path / "out" / "latest.json").read_text())["run_id"] == "run"
    assert not (run.root / "_staging").exists()


@pytest.mark.parametrize("content", [*DAMAGED, *(json.dumps({"run_id": name}) for name in OUTSIDE)])
def test_a_latest_that_names_no_run_is_an_error_with_a_way_out(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "other", "run", SHARDS)
    root = tmp_path / "out"
    make_run(root, "run", SHARDS)
    (root / "latest.json").write_text(content)
    readers: tuple[Callable[[], Any], ...] = (
        lambda: open_run(root),
        lambda: find_previous("latest", str(root)),
    )
    for read in readers:
        with pytest.raises(UsageError, match="does not name a run"):
            read()
    assert runs([str(root), "list"]) == 0
    assert "finished" in capsys.readouterr().out
    assert runs([str(root), "delete", "--keep", "1", "--print_only"]) == 0
    assert "0 runs to delete" in capsys.readouterr().out


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_manifest_that_names_files_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS)
    content = json.loads((run / "manifest.json").read_text())
    content["files"][0]["path"] = path
    (run / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(JobError, match="is not inside the run's folder"):
        open_run(run)


def test_a_manifest_that_names_a_previous_run_elsewhere_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS)
    content = json.loads((run / "manifest.json").read_text())
    content["previous"] = {"run_id": "../../other", "root": "/somewhere"}
    (run / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(JobError, match="is not the name of a folder"):
        open_run(run)

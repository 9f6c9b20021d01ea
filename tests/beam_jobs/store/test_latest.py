"""``latest.json`` and manifests: clocks that are ahead, damaged content, paths that lead elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.incremental.previous_run import find_previous
from beam_jobs.runs.__main__ import main as runs
from beam_jobs.store.dataset import open_run
from beam_jobs.store.latest import Latest, should_replace
from tests.support.runs.jobs import run_job, write_texts
from tests.support.runs.made_runs import make_run

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SHARDS = [{"ids": ["a", "b"], "vectors": np.eye(2, 4)}]
DAMAGED = ["[]", "", "{}", '"run"', "7", '{"run_id": 7}', "[" * 9999]
FAR = '{"run_id": "far", "finished_at": "2099-01-01T00:00:00+00:00"}'
ELSEWHERE = ["../secret.parquet", "/etc/passwd", "embeddings/../../x", "a\\b", "gs://b/x", ""]
OUTSIDE = ["../other", "/etc", "a/b", "..", ".", "", "a\\b"]


@pytest.mark.parametrize(
    ("minutes_of_latest", "minutes_of_ours", "is_retry", "replaced"),
    [
        *[(-60, 0, False, True), (-60, -30, True, True), (-30, -60, True, False)],
        *[(60, 0, False, True), (60, -60, True, False), (-30, -60, False, False)],
    ],
)
def test_a_clock_that_is_ahead_hides_no_later_run(
    minutes_of_latest: int, minutes_of_ours: int, is_retry: bool, replaced: bool
) -> None:
    latest = Latest("other", NOW + timedelta(minutes=minutes_of_latest))
    ours = (NOW + timedelta(minutes=minutes_of_ours)).isoformat()
    assert should_replace(latest, ours, is_retry=is_retry, now=NOW) == replaced


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

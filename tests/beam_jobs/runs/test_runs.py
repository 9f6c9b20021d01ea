"""``python -m beam_jobs.runs``: what there is and what can go."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.runs.__main__ import main
from beam_jobs.runs.deletion import plan_deletion
from beam_jobs.runs.listing import list_runs
from beam_jobs.store.manifest import PreviousEntry
from tests.support.runs.jobs import capture
from tests.support.runs.made_runs import make_run

SHARDS = [{"ids": ["a", "b"], "vectors": np.eye(2)}]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def runs(*argv: Any) -> tuple[int, str, str]:
    """Runs the command: exit code, output, errors."""
    with capture() as (stdout, stderr):
        code = main([str(word) for word in argv])
    return code, stdout.getvalue(), stderr.getvalue()


def unfinished(root: Path, run_id: str, age: timedelta) -> Path:
    """Writes what a crashed job leaves."""
    folder = root / run_id
    (folder / "_staging").mkdir(parents=True)
    for name in ("attempt", "embeddings-1.parquet"):
        path = folder / "_staging" / name
        path.write_bytes(b"x" * 500)
        then = (NOW - age).timestamp()
        os.utime(path, (then, then))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four finished runs, a failed one, a crashed one, one under way, and what is not ours."""
    for day in range(1, 5):
        make_run(tmp_path, f"r{day}", SHARDS, finished_at=f"2026-11-{day:02}T10:00:00+00:00")
    failed = "2 of 4 documents are dead letters"
    make_run(tmp_path, "failed", SHARDS, failure=failed, finished_at="2026-11-02T12:00:00+00:00")
    unfinished(tmp_path, "crashed", 3 * DAY)
    unfinished(tmp_path, "going", timedelta(hours=1))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "plan.txt").write_text("mine")
    return tmp_path


def test_every_run_is_listed_with_its_state(root: Path) -> None:
    found = {run.run_id: run for run in list_runs(str(root))}
    assert list(found) == ["r1", "r2", "failed", "r3", "r4", "crashed", "going"]
    assert {name: run.state for name, run in found.items() if not name.startswith("r")} == {
        "failed": "failed",
        "crashed": "unfinished",
        "going": "unfinished",
    }
    assert [name for name, run in found.items() if run.is_latest] == ["r4"]
    assert found["crashed"].num_bytes == 1000
    assert found["r1"].num_bytes == sum(p.stat().st_size for p in (root / "r1").rglob("*") if p.is_file())
    code, stdout, _ = runs(root, "list")
    assert code == 0
    lines = [line.split() for line in stdout.splitlines()]
    assert lines[5][:5] == ["r4", "finished", "2026-11-04", "10:00", "2"]
    assert lines[5][-1] == "latest"
    assert lines[6][:2] == ["crashed", "unfinished"]
    parsed = [json.loads(line) for line in runs("list", root, "--format", "json")[1].splitlines()]
    assert [entry["counts"] and entry["counts"]["num_written"] for entry in parsed] == [
        2,
        2,
        2,
        2,
        2,
        None,
        None,
    ]


def test_only_what_never_became_a_run_goes_unless_a_number_is_given(root: Path) -> None:
    plan = plan_deletion(list_runs(str(root)), None, DAY, NOW)
    assert {run.run_id for run in plan.deleted} == {"failed", "crashed"}
    plan = plan_deletion(list_runs(str(root)), 2, DAY, NOW)
    assert {run.run_id for run in plan.deleted} == {"r1", "r2", "failed", "crashed"}
    assert {run.run_id: why for run, why in plan.kept} == {
        "r3": "one of the newest 2",
        "r4": "the latest",
        "going": "recently written to; its job may still be running",
    }


def test_the_latest_stays_even_if_it_is_not_the_newest(root: Path) -> None:
    (root / "latest.json").write_text(json.dumps({"run_id": "r1", "finished_at": "x"}))
    plan = plan_deletion(list_runs(str(root)), 1, DAY, NOW)
    assert {run.run_id for run, _ in plan.kept} == {"r1", "r4", "going"}
    (root / "latest.json").unlink()
    plan = plan_deletion(list_runs(str(root)), 1, DAY, NOW)
    assert {run.run_id for run, _ in plan.kept} == {"r4", "going"}


def test_what_a_kept_run_needs_stays_and_what_that_needs(root: Path) -> None:
    later = "2026-11-{:02}T10:00:00+00:00"

    def made(run_id: str, day: int, emit: str, previous: str) -> None:
        base = PreviousEntry(run_id=previous, root=str(root))
        make_run(root, run_id, SHARDS, finished_at=later.format(day), emit=emit, previous=base)

    made("c1", 6, "changes", "r1")
    made("c2", 7, "changes", "c1")
    made("whole", 8, "all", "r2")
    plan = plan_deletion(list_runs(str(root)), 2, DAY, NOW)
    stays = {run.run_id: why for run, why in plan.kept}
    assert set(stays) == {"whole", "c2", "c1", "r1", "going"}
    assert (stays["c1"], stays["r1"]) == ("c2 needs it", "c1 needs it")


def test_deleting_asks_says_and_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = sorted(path.name for path in root.iterdir())
    code, stdout, _ = runs(root, "delete", "--keep", "1", "--min_age_hours", "0", "--print_only")
    assert code == 0
    assert "delete  crashed" in stdout
    assert sorted(path.name for path in root.iterdir()) == everything
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, stderr = runs(root, "delete")
    assert code == 2
    assert "--yes deletes these runs" in stderr
    assert sorted(path.name for path in root.iterdir()) == everything

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert "Nothing was deleted." in runs(root, "delete")[1]
    assert sorted(path.name for path in root.iterdir()) == everything
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert runs(root, "delete", "--keep", "3", "--min_age_hours", "0")[0] == 0
    assert sorted(path.name for path in root.iterdir()) == ["latest.json", "notes", "r2", "r3", "r4"]
    assert runs(root, "delete", "--keep", "1", "--yes")[0] == 0
    assert sorted(path.name for path in root.iterdir()) == ["latest.json", "notes", "r4"]


def test_an_unreadable_manifest_is_shown_and_never_removed(root: Path) -> None:
    (root / "r1" / "manifest.json").write_text("{")
    assert {run.run_id: run.state for run in list_runs(str(root))}["r1"] == "unreadable"
    plan = plan_deletion(list_runs(str(root)), 1, DAY, NOW)
    assert "r1" in {run.run_id for run, _ in plan.kept}


def test_wrong_use(root: Path) -> None:
    assert "is a run, not a root of runs" in runs(root / "r1", "list")[2]
    assert "does not exist" in runs(root / "nothing", "list")[2]
    assert "at least 1" in runs(root, "delete", "--keep", "0")[2]
    assert "--keep is for delete, not for list" in runs(root, "list", "--keep", "1")[2]
    assert "--format is for list" in runs(root, "validate", "--format", "json")[2]
    assert runs(root, "remove")[0] == 2

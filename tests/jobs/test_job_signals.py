"""Jobs that end before their time: signals, kill -9, a full disk. None leaves what looks like a run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs.jobs import Run, run_job, start_job, write_texts

NUM_TEXTS = 400_000
BUSY = ["--id_column", "id", "--checkpoint_seconds", 0.2, "--buffer_documents", 500, "--run_id", "run"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough to keep a job busy for minutes."""
    return write_texts(tmp_path_factory.mktemp("in") / "in.jsonl", ["the cat sat on the mat"] * NUM_TEXTS)


def _wait(what: Callable[[], Any], job: subprocess.Popen[str]) -> None:
    """Waits until something is so, while a job runs."""
    num_looks = 0
    while not what():
        assert job.poll() is None, job.communicate()[1]
        num_looks += 1
        assert num_looks < 1500
        time.sleep(0.1)


def _staged(output: Path) -> list[Path]:
    return [*output.glob("run/_staging/*.parquet")]


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _is_no_run(output: Path) -> None:
    assert not [*output.rglob("manifest*.json"), *output.rglob("latest.json")]
    assert not [*output.glob("run/embeddings/*")]


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_a_signal_ends_the_job_and_leaves_no_run(
    number: signal.Signals, exit_code: int, source: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    job = start_job(tmp_path / "out", tiny_bundle, "--input", source, *BUSY)
    _wait(lambda: _staged(tmp_path / "out"), job)
    job.send_signal(number)
    stdout, stderr = job.communicate(timeout=100)
    assert job.returncode == exit_code
    assert f"Stopped by {number.name}. No run was written" in stderr
    assert "--run_id run" in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    _is_no_run(tmp_path / "out")


def test_a_signal_before_the_start_says_that_nothing_was_started(source: Path, tmp_path: Path) -> None:
    job = start_job(tmp_path / "out", tmp_path / "none", "--input", source)
    _wait(lambda: "beam_jobs" in Path(f"/proc/{job.pid}/cmdline").read_text(), job)
    time.sleep(1.0)  # Beam is being imported
    job.send_signal(signal.SIGTERM)
    _, stderr = job.communicate(timeout=100)
    assert job.returncode in (143, -15)  # the latter where Python itself was not ready yet
    assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()


# That a killed run goes on is tested every time: pipeline/incremental/test_resume.py.
@pytest.mark.slow
def test_after_kill_9_the_same_run_can_be_done(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    job = start_job(tmp_path / "out", tiny_bundle, "--input", source, *BUSY)
    _wait(lambda: _staged(tmp_path / "out"), job)
    job.kill()
    job.communicate(timeout=100)
    _is_no_run(tmp_path / "out")
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--id_column", "id", "--limit", 100)
    assert run.exit_code == 0, run.stderr
    assert run.column("doc_id") == list(map(str, range(100)))
    assert {path.name for path in run.root.iterdir()} == {"manifest.json", "report.html", "embeddings"}


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_and_leaves_no_run(tmp_path: Path, tiny_bundle: Path) -> None:
    """Files may have 100 kB here; the system refuses the rest as it does on a full disk."""
    source = write_texts(tmp_path / "in.jsonl", [f"cat {number}" for number in range(20_000)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        job = start_job(tmp_path / "out", tiny_bundle, "--input", source, "--run_id", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stdout, stderr = job.communicate(timeout=150)
    assert job.returncode == 1
    assert "error: The job failed and wrote no run: OSError: [Errno 27] File too large" in stderr
    assert "To retry and reuse what was completed: --run_id run" in stderr
    assert stdout == ""
    _is_no_run(tmp_path / "out")


@pytest.mark.slow
def test_two_runs_at_once_into_one_root(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    flags = ["--input", source, "--id_column", "id", "--limit", 300]
    jobs = [start_job(tmp_path / "out", tiny_bundle, *flags, "--run_id", name) for name in ("one", "two")]
    for job in jobs:
        _, stderr = job.communicate(timeout=200)
        assert job.returncode == 0, stderr
    for name in ("one", "two"):
        run = Run(0, tmp_path / "out" / name, "", "")
        assert run.column("doc_id") == list(map(str, range(300)))
        assert run.manifest.failure is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one", "two", "latest.json"}


@pytest.mark.slow
def test_workers_in_processes_of_their_own(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    """Each loads the model once; a signal ends them with their parent."""
    workers = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    flags = ["--input", source, "--id_column", "id", *workers]
    job = start_job(tmp_path / "out", tiny_bundle, *flags, "--limit", 500, "--run_id", "done")
    stdout, stderr = job.communicate(timeout=280)
    assert job.returncode == 0, stderr
    run = Run(0, tmp_path / "out/done", stdout, stderr)
    assert sorted(run.column("doc_id"), key=int) == list(map(str, range(500)))

    job = start_job(tmp_path / "out", tiny_bundle, *flags, *BUSY[2:])
    _wait(lambda: _staged(tmp_path / "out"), job)
    children = _children(job.pid)
    assert children
    os.kill(job.pid, signal.SIGINT)
    job.communicate(timeout=100)
    assert job.returncode == 130
    num_looks = 0
    while alive := [child for child in children if _is_alive(child)]:
        num_looks += 1
        assert num_looks < 1000, alive
        time.sleep(0.1)

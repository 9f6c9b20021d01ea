"""A job that loses a process ends with exact rows, or fails clearly and ends with exact rows when resumed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.faults import faults
from tests.support.runs.jobs import run_job, start_job, write_texts

NUM_TEXTS = 20_000
FLAGS = ["--id_column", "id", "--no_report", "--checkpoint_seconds", "0.3", "--buffer_documents", "500"]
pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"{'the cat sat on the mat ' * (1 + i % 3)}{i}" for i in range(NUM_TEXTS)]
    return write_texts(tmp_path_factory.mktemp("in") / "in.jsonl", texts)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = run_job(tmp_path_factory.mktemp("whole"), tiny_bundle, "--input", source, *FLAGS)
    assert run.exit_code == 0, run.stderr
    return run.root


def assert_exact(root: Path, expected: Path) -> None:
    """Checks that nothing is lost, doubled or left over."""
    ids, vectors = faults.ids_and_vectors(root)
    known_ids, known_vectors = faults.ids_and_vectors(expected)
    assert ids == known_ids
    np.testing.assert_allclose(vectors, known_vectors, atol=1e-5)
    assert not (root / "_staging").exists()
    assert {path.name for path in root.iterdir()} == {"embeddings", "manifest.json"}


@pytest.mark.parametrize(
    ("engine", "fault"),
    [
        pytest.param("Prism, worker pool", faults.kill_worker, id="short"),
        ("Prism, worker pool", faults.kill_pool),
        ("Prism", faults.kill_engine),
        ("multi-process", faults.kill_worker),
        ("multi-process", faults.stop_worker),
        ("in-process", faults.kill_launcher),
        ("Flink", faults.kill_taskmanager),
        ("Flink", faults.kill_jobmanager),
    ],
)
def test_after_a_fault_the_rows_are_exact(
    engine: str, fault: faults.Fault, source: Path, undisturbed: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    flags = ["--input", str(source), *FLAGS]
    tally = faults.run_with_faults(tmp_path, tiny_bundle, flags, engine, [fault], seed=1, delay=0.1)
    assert not tally.unclear
    assert_exact(tmp_path / "run", undisturbed)
    if not tally.faults:
        pytest.skip("the job had ended before the fault came")
    assert tally.faults == [fault.__name__]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a fraction of a run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_fails_clearly_and_the_resumed_run_is_exact(
    small_disk: Path, source: Path, undisturbed: Path, tiny_bundle: Path
) -> None:
    flags = ["--input", str(source), *FLAGS, "--run_id", "run"]
    full = start_job(small_disk, tiny_bundle, *flags)
    _, said = full.communicate(timeout=300)
    assert full.returncode == 1
    assert "No space left on device" in said.split("error: ")[-1]
    assert not (small_disk / "run" / "manifest.json").exists()
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    again = start_job(small_disk, tiny_bundle, *flags)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert_exact(small_disk / "run", undisturbed)


def test_a_killed_model_costs_its_job_nothing(
    source: Path, undisturbed: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    flags = ["--input", str(source), *FLAGS, "--isolate_model"]
    tally = faults.run_with_faults(
        tmp_path, tiny_bundle, flags, "in-process", [faults.kill_model], seed=3, delay=0.1
    )
    assert tally.starts == 1
    assert_exact(tmp_path / "run", undisturbed)


def test_nobody_is_left_behind() -> None:
    """What these tests start, they end."""
    assert not [line for line in faults.descendants(os.getpid()).values() if "isolated_child" in line]

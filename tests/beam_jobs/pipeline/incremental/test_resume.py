"""A run that was killed goes on: the rows of an undisturbed run, and what was done is not done again."""

from __future__ import annotations

import random
import shutil
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_jobs.pipeline.checkpoint import BufferLimit, Checkpoint
from tests.support.runs.jobs import Run, run_job, start_job, vectors_of, write_texts

# Some seconds in the model: a busy machine's test sees the job at the share where it is to be killed.
NUM_TEXTS = 24_000
FLAGS = ["--id_column", "id", "--checkpoint_seconds", 0.3, "--buffer_documents", 1000]
TEXTS = [f"{'the cat sat on the mat ' * (3 + number % 6)}{number}" for number in range(NUM_TEXTS)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("in") / "in.jsonl", TEXTS)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    done = run_job(tmp_path_factory.mktemp("whole"), tiny_bundle, "--input", source, *FLAGS)
    assert done.exit_code == 0, done.stderr
    return done


def safe_rows(root: Path) -> int:
    """Counts the documents in files that were closed. What was taken over is there twice for a while."""
    found: set[str] = set()
    for path in root.glob("_staging/embeddings-*.parquet"):
        try:
            found.update(pq.read_table(path, columns=["doc_id"]).column(0).to_pylist())
        except Exception:  # cut off
            continue
    return len(found)


def kill_at(share: float, source: Path, bundle: Path, output: Path, *flags: Any) -> int:
    """Starts a job and kills it when a share of its rows is safe; gives their number."""
    job = start_job(output, bundle, "--input", source, *FLAGS, "--run_id", "run", *flags)
    num_looks = 0
    while safe_rows(output / "run") < share * NUM_TEXTS:
        assert job.poll() is None, job.communicate()
        num_looks += 1
        assert num_looks < 5000
        time.sleep(0.02)
    job.kill()
    job.communicate(timeout=100)
    return safe_rows(output / "run")


def assert_same(found: Run, expected: Run) -> None:
    """Checks that two runs have the same rows, whatever their order."""
    tables = [done.rows.sort_by("doc_id") for done in (found, expected)]
    assert tables[0].drop_columns("embedding").equals(tables[1].drop_columns("embedding"))
    np.testing.assert_allclose(vectors_of(tables[0]), vectors_of(tables[1]), atol=1e-5)


def test_a_killed_run_goes_on(source: Path, undisturbed: Run, tmp_path: Path, tiny_bundle: Path) -> None:
    saved = kill_at(0.3, source, tiny_bundle, tmp_path)
    run = run_job(tmp_path, tiny_bundle, "--input", source, *FLAGS, "--resume")
    assert run.exit_code == 0, run.stderr
    assert "files of an earlier attempt at this run" in run.stderr
    counts = run.manifest.counts
    assert counts.num_read == counts.num_written + counts.num_reused == NUM_TEXTS
    assert counts.num_reused == saved
    assert_same(run, undisturbed)
    assert {path.name for path in run.root.iterdir()} == {"manifest.json", "report.html", "embeddings"}


@pytest.mark.slow
def test_files_of_other_settings_or_cut_off_are_left_alone(
    source: Path, undisturbed: Run, tmp_path: Path, tiny_bundle: Path
) -> None:
    shard, *_ = undisturbed.files("embeddings")
    whole = shard.read_bytes()
    flipped = whole[:400] + bytes([whole[400] ^ 1]) + whole[401:]  # within the data of a column
    for name, flags, left, num_reused in (
        ("same", [], whole, 200),
        ("other", ["--pooling", "max"], whole, 0),
        ("cut", [], whole[:-100], 0),
        ("empty", [], b"", 0),
        ("damaged", [], flipped, 0),
    ):
        staging = tmp_path / name / "_staging"
        staging.mkdir(parents=True)
        (staging / "embeddings-x.parquet").write_bytes(left)
        (staging / f"closed-{sha256(whole).hexdigest()}").touch()
        argv = ["--input", source, *FLAGS, "--limit", 200, *flags]
        run = run_job(tmp_path, tiny_bundle, *argv, run_id=name)
        assert run.exit_code == 0, run.stderr
        assert run.manifest.counts.num_reused == num_reused
        assert run.rows.num_rows == 200


def test_a_failed_run_goes_on_when_more_is_allowed(tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", "a failword", "a dog"])
    flags = ["--input", source, "--id_column", "id"]
    failed = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert failed.exit_code == 3
    again = run_job(tmp_path / "out", tiny_bundle, *flags, "--resume", "--max_dead_fraction", 0.5)
    assert again.exit_code == 0, again.stderr
    counts = again.manifest.counts
    assert (counts.num_written, counts.num_reused, counts.num_dead) == (0, 2, 1)
    assert sorted(again.column("doc_id")) == ["0", "2"]


def test_which_run_is_meant(tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out"
    source = write_texts(tmp_path / "in.jsonl", ["a cat"])

    def error(*flags: Any) -> str:
        argv = ["--input", source, "--id_column", "id", "--resume", *flags]
        done = run_job(output, tiny_bundle, *argv, run_id="given" if flags else "none")
        assert done.exit_code == 2
        return done.stderr

    assert "is no unfinished run none" in error()
    run_job(output, tiny_bundle, "--input", source, run_id="given")
    assert "is no unfinished run given" in error("--keep_text")
    from beam_jobs.errors import UsageError
    from beam_jobs.store.run_folder import run_to_resume

    with pytest.raises(UsageError, match=r"no unfinished run below"):
        run_to_resume(str(output), None)
    for name in ("b", "a"):
        (output / name / "_staging").mkdir(parents=True)
        (output / name / "_staging" / "attempt").write_text("x")
    with pytest.raises(UsageError, match=r"2 runs below .* are unfinished: a, b"):
        run_to_resume(str(output), None)
    shutil.rmtree(output / "a")
    assert run_to_resume(str(output), None) == "b"


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_work_is_made_safe_after_a_tenth_of_the_time_it_took() -> None:
    clock, closed_at = Time(), []
    checkpoint = Checkpoint(60.0, clock)
    for second in range(1, 4000):
        clock.now = float(second)
        if checkpoint.is_due:
            checkpoint.reached()
            closed_at.append(second)
    gaps = np.diff([0, *closed_at])
    assert gaps[0] == 4
    assert gaps.max() == 60
    assert all(gap <= max(4, 0.1 * at + 1) for gap, at in zip(gaps, closed_at, strict=True))
    assert len(closed_at) < 100


def test_buffers_take_a_small_part_of_the_time_whatever_the_model() -> None:
    for documents_a_second in (0.5, 20, 170, 20_000):
        clock = Time()
        limit, longest = BufferLimit(4096, 30.0, clock), 0.0
        while clock.now < 3000:
            number = limit.documents
            assert 1 <= number <= 4096
            seconds = number / documents_a_second
            clock.now += seconds
            limit.computed(number, seconds)
            if clock.now > 200:
                longest = max(longest, seconds / clock.now)
        assert longest < 0.05 or documents_a_second == 0.5
        assert limit.documents == min(4096, int(30 * documents_a_second))


def test_a_slow_model_gets_a_batch_on_each_lane() -> None:
    """Not 4 s of it, which would be batches of a few texts; but no more than may be lost."""
    for most, expected in ((60.0, 600), (10.0, 300)):
        limit = BufferLimit(4096, most, Time())
        limit.computed(512, 512 / 30, filling=600)
        assert limit.documents == expected


@pytest.mark.slow
def test_what_a_second_attempt_took_over_is_there_for_a_third(
    source: Path, undisturbed: Run, tmp_path: Path, tiny_bundle: Path
) -> None:
    first = kill_at(0.2, source, tiny_bundle, tmp_path)
    second = kill_at(first / NUM_TEXTS + 0.1, source, tiny_bundle, tmp_path, "--resume")
    assert second > first
    run = run_job(tmp_path, tiny_bundle, "--input", source, *FLAGS, "--resume")
    assert run.exit_code == 0, run.stderr
    assert run.manifest.counts.num_reused == second
    assert_same(run, undisturbed)


@pytest.mark.slow
def test_ten_kills_at_random_moments(
    source: Path, undisturbed: Run, tmp_path: Path, tiny_bundle: Path
) -> None:
    random.seed(7)
    for number in range(10):
        output = tmp_path / str(number)
        saved = kill_at(random.uniform(0.02, 0.9), source, tiny_bundle, output)
        run = run_job(output, tiny_bundle, "--input", source, *FLAGS, "--resume")
        assert run.exit_code == 0, run.stderr
        assert run.manifest.counts.num_reused == saved
        assert_same(run, undisturbed)

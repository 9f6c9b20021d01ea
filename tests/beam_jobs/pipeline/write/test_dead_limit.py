"""``StopAfterDead``: when a job ends early, and what is left to look at."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_jobs.base.config import FailureLimits
from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.errors import TooManyDeadError, UsageError
from beam_jobs.pipeline.write.dead_limit import _CountDoFn, _StopDoFn, tally_name
from beam_jobs.pipeline.write.description import new_run
from tests.support.runs.jobs import run_job, write_jsonl


def letter(number: int, reason: str = "broken_json") -> DeadLetter:
    return DeadLetter(f"a#{number}", "a", "read", reason, "why", f"text {number}")


def begun(root: Path, limit: float, **limits: bool) -> _StopDoFn:
    step = _StopDoFn(new_run(str(root), "run"), FailureLimits(stop_after_dead=limit, **limits))
    step.setup()
    step.start_bundle()
    return step


def passed(step: _StopDoFn, *letters: DeadLetter) -> list[DeadLetter]:
    return [out for one in letters for out in step.process(one)]


def test_the_letter_beyond_the_number_ends_the_job_and_all_are_written(tmp_path: Path) -> None:
    step = begun(tmp_path, 2)
    assert passed(step, letter(0), letter(1)) == [letter(0), letter(1)]
    with pytest.raises(TooManyDeadError, match=r"3 dead letters \(the last: 3 broken_json\) are more"):
        passed(step, letter(2))
    (path,) = tmp_path.glob("run/_staging/dead_letters-*.parquet")
    assert pq.read_table(path).column("text").to_pylist() == ["text 0", "text 1", "text 2"]


def test_bundles_add_up_and_a_repeated_one_counts_once(tmp_path: Path) -> None:
    step = begun(tmp_path, 3)
    passed(step, letter(0), letter(1))
    step.finish_bundle()
    step.start_bundle()
    passed(step, letter(2))
    step.start_bundle()  # the bundle failed elsewhere, and is repeated
    passed(step, letter(2))
    with pytest.raises(TooManyDeadError, match="4 dead letters"):
        passed(step, letter(3))


@pytest.mark.parametrize("counts", [False, True])
def test_blank_texts_count_only_where_they_fail_a_run(tmp_path: Path, *, counts: bool) -> None:
    step = begun(tmp_path, 1, fail_on_blank=counts)
    passed(step, letter(0, "blank_text"))
    if not counts:
        passed(step, letter(1, "blank_text"), letter(2))
        return
    with pytest.raises(TooManyDeadError):
        passed(step, letter(1, "blank_text"))


def test_a_fraction_is_taken_of_what_was_read_and_at_least_of_a_thousand(tmp_path: Path) -> None:
    step = begun(tmp_path, 0.01)
    passed(step, *map(letter, range(10)))
    reader = _CountDoFn(tally_name(step._options))
    reader.setup()
    for number in range(1_989):
        assert next(reader.process(Document(f"a#{number}", "a", "text")))
    passed(step, *map(letter, range(10)))  # 20 of 2,009
    with pytest.raises(TooManyDeadError, match="21 dead letters of 2,010 documents read so far"):
        passed(step, letter(20))


def test_the_run_has_no_manifest_and_says_where_to_look(tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "fine"}] * 20 + [{"text": 5}] * 20)
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--stop_after_dead", 10)
    assert run.exit_code == 3
    assert "11 dead letters" in run.stderr
    assert "11 text_not_string" in run.stderr
    assert f"{run.root}/_staging/dead_letters-*.parquet" in run.stderr
    assert not [*run.root.glob("manifest*")]
    # Repeated with the limit raised, it is a run like any other.
    again = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--max_dead_fraction", 0.5)
    assert again.exit_code == 0
    assert (again.manifest.counts.num_written + again.manifest.counts.num_reused, len(again.dead)) == (20, 20)


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_limits_that_mean_nothing(limit: float) -> None:
    with pytest.raises(UsageError, match="--stop_after_dead must be"):
        FailureLimits(stop_after_dead=limit)

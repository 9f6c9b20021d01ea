"""From receipts to a run: the same in any order, once however often it is tried, and never over another's."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.base.records import DeadFile, DeadLetter
from beam_jobs.errors import CountsError, JobError, TooManyDeadError
from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA, dead_letter_batch
from beam_jobs.pipeline.write.commit import CommitRun, commit
from beam_jobs.pipeline.write.counts import check_counts, sum_receipts
from beam_jobs.pipeline.write.moves import SENTINEL, move_shard, plan_commit, reserve_names
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import RunManifest
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import check_claim, claim, find_manifest
from tests.support.runs.descriptions import description

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
SCHEMA = pa.schema([pa.field("doc_id", pa.string())])
DESCRIPTION = description()


@pytest.fixture
def options(tmp_path: Path) -> WriteOptions:
    return WriteOptions(output=str(tmp_path / "out"), run_id="run", attempt_id="a" * 32, fail_job=False)


def _root(options: WriteOptions) -> Path:
    return Path(options.output) / options.run_id


def _stage(options: WriteOptions, *ids: str) -> Receipt:
    """Writes a staged shard of these documents."""
    shard = Shard(str(_root(options) / "_staging"), "embeddings", SCHEMA)
    shard.write(pa.RecordBatch.from_pydict({"doc_id": list(ids)}, schema=SCHEMA))
    return shard.close("float32")


def _stage_dead(options: WriteOptions, *reasons: str) -> Receipt:
    shard = Shard(str(_root(options) / "_staging"), "dead_letters", DEAD_LETTER_SCHEMA)
    shard.write(dead_letter_batch([DeadLetter("d", "s", "encode", reason, "") for reason in reasons]))
    return shard.close(None)


def _finish(
    options: WriteOptions, entries: Iterable[Any], limits: FailureLimits | None = None
) -> RunManifest:
    """What the commit's steps do, without a runner."""
    plan = reserve_names(plan_commit(0, [*entries, SENTINEL]), options)
    for element in plan.moves:
        move_shard(*element, options)
    return commit(plan, options, replace(DESCRIPTION, limits=limits or FailureLimits()))


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _ids(options: WriteOptions) -> list[str]:
    paths = sorted((_root(options) / "embeddings").glob("*.parquet"))
    return [value for path in paths for value in pq.read_table(path).column("doc_id").to_pylist()]


RECEIPTS = st.builds(
    Receipt,
    kind=st.sampled_from(["embeddings", "dead_letters"]),
    path=st.uuids().map(str),
    num_rows=st.integers(1, 9),
    num_bytes=st.integers(1, 9),
    sha256=st.just(""),
    opened_at=st.integers(0, 5),
    precision=st.just("float32"),
)


@given(receipts=st.lists(RECEIPTS, unique_by=lambda r: r.path), seed=st.integers())
def test_receipts_in_any_order_give_one_plan(receipts: list[Receipt], seed: int) -> None:
    entries: list[Any] = [*receipts, 3, 4, DeadFile("b", "r", "m", 1), DeadFile("a", "r", "m", 0), SENTINEL]
    shuffled = random.Random(seed).sample(entries, len(entries))
    plan = plan_commit(0, entries)
    assert plan_commit(0, shuffled) == plan
    assert plan.num_read == 7
    assert [file.source for file in plan.dead_files] == ["a", "b"]
    assert sorted(r.path for r, _ in plan.moves) == sorted(r.path for r in receipts)
    names = [name for _, name in plan.moves]
    assert len(set(names)) == len(names)
    for kind in ("embeddings", "dead_letters"):
        ours = [r for r, name in plan.moves if name.startswith(f"{kind}/{kind}-")]
        assert [(r.opened_at, r.path) for r in ours] == sorted((r.opened_at, r.path) for r in ours)
        assert all(r.kind == kind for r in ours)


def test_receipts_without_their_sentinel_are_no_run() -> None:
    with pytest.raises(AssertionError, match="without their sentinel"):
        plan_commit(0, [])


def test_a_commit_numbers_checks_and_lists_the_shards(options: WriteOptions) -> None:
    manifest = _finish(options, [_stage(options, "a", "b"), _stage(options, "c"), 1, 2])
    assert [file.path for file in manifest.files] == [
        "embeddings/embeddings-00000-of-00002.parquet",
        "embeddings/embeddings-00001-of-00002.parquet",
    ]
    assert _ids(options) == ["a", "b", "c"]
    assert find_manifest(str(_root(options))) == manifest
    assert manifest.failure is None
    assert json.loads((Path(options.output) / "latest.json").read_bytes())["run_id"] == "run"
    assert not (_root(options) / "_staging").exists()


def test_a_commit_tried_again_changes_nothing(options: WriteOptions) -> None:
    entries = [_stage(options, "a"), 1]
    first = _finish(options, entries)
    before = _contents(Path(options.output))
    again = replace(DESCRIPTION, started_at="2027-01-01T00:00:00+00:00")
    assert commit(plan_commit(0, [*entries, SENTINEL]), options, again) == first
    assert _finish(options, entries) == first
    assert _contents(Path(options.output)) == before


def test_a_failed_commit_tried_again_fails_alike(options: WriteOptions) -> None:
    entries = [_stage(options, "a"), _stage_dead(options, "model_error"), 2]
    first = _finish(options, entries)
    assert first.failure_kind == "too_many_dead"
    before = _contents(Path(options.output))
    assert _finish(options, entries) == first
    assert _contents(Path(options.output)) == before
    assert _ids(options) == ["a"]
    assert not (Path(options.output) / "latest.json").exists()


def test_a_worker_lost_after_the_manifest_leaves_the_rest_to_the_next_try(options: WriteOptions) -> None:
    entries = [_stage(options, "a"), 1]
    manifest = _finish(options, entries)
    (Path(options.output) / "latest.json").unlink()
    filesystem.replace(str(_root(options) / "_staging/late"), b"")
    assert _finish(options, entries) == manifest
    assert (Path(options.output) / "latest.json").exists()
    assert not (_root(options) / "_staging").exists()


def test_a_late_try_does_not_point_back_to_an_older_run(options: WriteOptions) -> None:
    entries = [_stage(options, "a"), 1]
    _finish(options, entries)
    newer = json.dumps({"run_id": "newer", "finished_at": "2020-01-01T00:00:00+00:00", "sequence": 2})
    (Path(options.output) / "latest.json").write_text(newer)
    _finish(options, entries)
    assert (Path(options.output) / "latest.json").read_text() == newer


def test_files_of_work_that_was_not_committed_are_not_in_the_run(options: WriteOptions) -> None:
    """A runner may run a bundle twice and keep one; the other's file has no receipt."""
    kept, _, late = _stage(options, "a"), _stage(options, "a"), str(_root(options) / "_staging/late.parquet")
    _finish(options, [kept, 1])
    assert _ids(options) == ["a"]
    filesystem.replace(late, b"written by a worker that was given up for dead")
    assert _ids(options) == ["a"]


def test_what_an_unfinished_attempt_left_is_replaced_or_removed(options: WriteOptions) -> None:
    earlier = replace(options, attempt_id="b" * 32)
    plan = plan_commit(0, [*(_stage(earlier, name) for name in "xyz"), 3, SENTINEL])
    plan = reserve_names(plan, earlier)
    for element in plan.moves:
        move_shard(*element, earlier)  # and then the machine was gone
    assert _ids(options) == ["x", "y", "z"]
    manifest = _finish(options, [_stage(options, "a"), _stage(options, "b"), 2])
    assert _ids(options) == ["a", "b"]
    assert len(manifest.files) == 2


def test_a_stale_file_of_the_same_name_and_size_does_not_pass_for_ours(options: WriteOptions) -> None:
    receipt = _stage(options, "a")
    stale = _root(options) / "embeddings/embeddings-00000-of-00001.parquet"
    filesystem.replace(str(stale), bytes(receipt.num_bytes))
    _finish(options, [receipt, 1])
    assert _ids(options) == ["a"]


def test_a_finished_run_is_not_touched_by_a_slower_job(options: WriteOptions) -> None:
    slower = replace(options, attempt_id="b" * 32)
    staged = _stage(slower, "b1", "b2")
    _finish(options, [_stage(options, "a"), 1])
    before = _contents(_root(options))
    filesystem.replace(staged.path, b"")
    with pytest.raises(JobError, match="holds a finished run of another job"):
        _finish(slower, [staged, 2])
    assert {n: d for n, d in _contents(_root(options)).items() if "_staging" not in n} == before


def test_of_two_jobs_in_one_folder_the_one_started_last_goes_on(options: WriteOptions) -> None:
    newer = replace(options, attempt_id="b" * 32)
    claim(options)
    mine = _stage(options, "a")
    claim(newer)
    theirs = _stage(newer, "b")
    with pytest.raises(JobError, match="claimed"):
        _finish(options, [mine, 1])
    assert not (_root(options) / "embeddings").exists()
    _finish(newer, [theirs, 1])
    assert _ids(newer) == ["b"]


def test_a_failed_run_may_be_tried_again(options: WriteOptions) -> None:
    _finish(options, [_stage_dead(options, "model_error"), 1])
    again = replace(options, attempt_id="b" * 32)
    claim(again)
    found = check_claim(again)
    assert found is not None
    assert found.failure is not None
    _finish(again, [_stage(again, "a"), 1])
    assert {path.name for path in _root(options).iterdir()} == {
        "manifest.json",
        "report.html",
        "embeddings",
        "dead_letters",
    }
    assert not [*(_root(options) / "dead_letters").iterdir()]


def test_a_file_changed_behind_the_jobs_back_stops_the_commit(options: WriteOptions) -> None:
    plan = plan_commit(0, [_stage(options, "a"), 1, SENTINEL])
    for receipt, name in plan.moves:
        move_shard(receipt, name, options)
        (_root(options) / name).write_bytes(b"")
    with pytest.raises(JobError, match=r"should have \d+ bytes but has 0"):
        commit(plan, options, DESCRIPTION)
    assert find_manifest(str(_root(options))) is None


@pytest.mark.parametrize(
    ("num_dead", "num_read", "fraction", "passes"),
    [
        *[(0, 10, 0.0, True), (1, 10, 0.0, False), (29, 100, 0.29, True), (30, 100, 0.29, False)],
        *[(7, 100, 0.07, True), (8, 100, 0.07, False), (1, 1_000_000, 1e-6, True), (5, 5, 1.0, True)],
    ],
)
def test_the_allowed_fraction_is_exact(
    options: WriteOptions, num_dead: int, num_read: int, fraction: float, passes: bool
) -> None:
    receipts = [_stage_dead(options, *["model_error"] * num_dead)] if num_dead else []
    counts = sum_receipts(receipts, num_read, 0).model_copy(update={"num_written": num_read - num_dead})
    kind, _ = check_counts(counts, receipts, FailureLimits(max_dead_fraction=fraction), "float32")
    assert kind == (None if passes else "too_many_dead")


def test_lost_documents_are_a_bug_and_say_so(options: WriteOptions) -> None:
    manifest = _finish(options, [_stage(options, "a"), 2])
    assert manifest.failure_kind == "counts"
    assert "2 documents read, but 1 written" in (manifest.failure or "")


def test_two_precisions_in_one_run_fail_it(options: WriteOptions) -> None:
    other = replace(_stage(options, "b"), precision="bfloat16")
    manifest = _finish(options, [_stage(options, "a"), other, 2])
    assert manifest.failure_kind == "precision"


def _run(options: WriteOptions, entries: list[Any], limits: FailureLimits) -> None:
    description = replace(DESCRIPTION, limits=limits)
    with beam.Pipeline(runner=RUNNER) as pipeline:
        created = pipeline | beam.Create(entries, reshuffle=False)
        manifests = created | CommitRun(options, description)
        assert_that(manifests | beam.combiners.Count.Globally(), _is_one)


def _is_one(counts: list[int]) -> None:
    assert counts == [1]


def test_the_whole_commit_on_a_runner(options: WriteOptions) -> None:
    _run(options, [_stage(options, "a", "b"), _stage(options, "c"), 3], FailureLimits())
    assert _ids(options) == ["a", "b", "c"]
    assert (_root(options) / "manifest.json").exists()


def test_no_receipts_at_all_still_give_a_manifest(options: WriteOptions) -> None:
    _run(options, [], FailureLimits(allow_empty_input=True))
    found = find_manifest(str(_root(options)))
    assert found is not None
    assert (found.files, found.counts.num_read, found.failure) == ((), 0, None)


@pytest.mark.parametrize(
    ("entries", "error"), [([1], CountsError), ([], TooManyDeadError)], ids=["lost", "empty"]
)
def test_where_nobody_waits_a_failed_run_fails_the_pipeline(
    options: WriteOptions, entries: list[Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        _run(replace(options, fail_job=True), entries, FailureLimits())
    assert (_root(options) / "manifest.failed.json").exists()

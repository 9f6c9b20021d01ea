"""An engine may run the whole job again, at any point, with documents in other files: the run stays exact."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import JobError
from beam_jobs.pipeline.rows.cost import COST_KEYS
from beam_jobs.pipeline.write.commit import _claimed, commit
from beam_jobs.pipeline.write.moves import SENTINEL, move_shard, plan_commit, reserve_names
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.pipeline.write.stop import StopWhenEnded
from beam_jobs.pipeline.write.transform import RunInputs, WriteRun
from beam_jobs.store.manifest import RunManifest
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import find_manifest
from tests.support.runs.descriptions import description

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
SCHEMA = pa.schema([pa.field("doc_id", pa.string())])
IDS = "abcdef"
DESCRIPTION = description()
# How the documents meet in files: a number of files, and the file of each document.
GROUPINGS = st.lists(st.integers(0, 3), min_size=len(IDS), max_size=len(IDS))


@pytest.fixture
def options(tmp_path: Path) -> WriteOptions:
    return options_in(str(tmp_path))


def options_in(folder: str) -> WriteOptions:
    return WriteOptions(output=f"{folder}/out", run_id="run", attempt_id="a" * 32, claim_in_job=True)


def stage(options: WriteOptions, grouping: list[int]) -> list[Receipt]:
    receipts = []
    for file in sorted(set(grouping)):
        ids = [name for name, its in zip(IDS, grouping, strict=True) if its == file]
        shard = Shard(f"{options.output}/{options.run_id}/_staging", "embeddings", SCHEMA)
        shard.write(pa.RecordBatch.from_pydict({"doc_id": ids}, schema=SCHEMA))
        receipts.append(shard.close("float32"))
    return receipts


def run_once(options: WriteOptions, grouping: list[int], num_moves: int | None = None) -> RunManifest | None:
    """Does what the job does; with ``num_moves`` the engine loses it after so many moves."""
    _claimed("", options)
    plan = reserve_names(plan_commit(0, [*stage(options, grouping), len(IDS), SENTINEL]), options)
    for element in plan.moves[:num_moves]:
        move_shard(*element, options)
    return None if num_moves is not None else commit(plan, options, DESCRIPTION)


def assert_exact(options: WriteOptions) -> None:
    """Checks that the folder holds what the manifest lists and nothing else, each document once."""
    root = Path(options.output) / options.run_id
    manifest = find_manifest(str(root))
    assert manifest is not None
    assert manifest.failure is None
    digests = {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.parquet")
    }
    assert digests == {file.path: file.sha256 for file in manifest.files}
    ids = [name for path in digests for name in pq.read_table(root / path).column("doc_id").to_pylist()]
    assert sorted(ids) == list(IDS)
    assert not (root / "_staging").exists()


@settings(max_examples=30, deadline=None)
@given(
    before=st.lists(st.tuples(GROUPINGS, st.integers(0, 4)), max_size=2),
    first=GROUPINGS,
    after=st.lists(st.tuples(GROUPINGS, st.none() | st.integers(0, 4)), max_size=3),
)
def test_after_any_number_of_whole_jobs_the_run_is_as_its_manifest_says(
    before: list[tuple[list[int], int]], first: list[int], after: list[tuple[list[int], int | None]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = options_in(folder)
        for grouping, num_moves in before:  # lost before the manifest
            run_once(options, grouping, num_moves)
        manifest = run_once(options, first)
        assert_exact(options)
        for grouping, num_moves in after:
            again = run_once(options, grouping, num_moves)
            assert again in (None, manifest)
        if after:
            assert run_once(options, first) == manifest
        assert_exact(options)


@pytest.mark.parametrize(
    "again", [[0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]], ids=["fewer files", "another order"]
)
def test_the_whole_job_again_after_the_manifest(options: WriteOptions, again: list[int]) -> None:
    first = run_once(options, [0, 0, 0, 1, 1, 1])
    assert run_once(options, again) == first
    assert_exact(options)


def test_moves_of_a_job_that_runs_again_leave_a_finished_run_alone(options: WriteOptions) -> None:
    run_once(options, [0, 0, 0, 1, 1, 1])
    run_once(options, [0, 1, 0, 1, 0, 1], num_moves=2)  # as many files, with other rows
    files = sorted((Path(options.output) / "run/embeddings").glob("*.parquet"))
    assert [pq.read_table(path).column("doc_id").to_pylist() for path in files] == [
        ["a", "b", "c"],
        ["d", "e", "f"],
    ]


def test_the_whole_graph_again_on_a_runner_does_no_work(options: WriteOptions) -> None:
    zeros = dict.fromkeys(COST_KEYS, "0") | {"num_documents": "1"}

    def run(names: list[str]) -> None:
        batches = [
            pa.RecordBatch.from_pydict({"doc_id": [name]}, schema=SCHEMA.with_metadata(zeros))
            for name in names
        ]
        with beam.Pipeline(runner=RUNNER) as pipeline:
            rows = pipeline | beam.Create(batches, reshuffle=False) | StopWhenEnded(options)
            dead = pipeline | "Dead" >> beam.Create([])
            read = pipeline | "Read" >> beam.Create([len(IDS)])
            _ = RunInputs(rows, dead, read) | WriteRun(options, SCHEMA, DESCRIPTION)

    run(list(IDS))
    assert_exact(options)
    run(["a"])  # would fail the counts if it were looked at
    assert_exact(options)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_commit_that_finds_its_files_changed_withdraws_the_manifest(
    options: WriteOptions, damage: Any
) -> None:
    grouping = [0, 0, 0, 0, 0, 0]
    plan = reserve_names(plan_commit(0, [*stage(options, grouping), len(IDS), SENTINEL]), options)
    ((receipt, name),) = plan.moves
    move_shard(receipt, name, options)
    commit(plan, options, DESCRIPTION)
    root = Path(options.output) / "run"
    damage(root / name)
    with pytest.raises(JobError, match="something else is changing this folder"):
        commit(plan, options, DESCRIPTION)
    assert find_manifest(str(root)) is None


def test_a_shard_that_the_storage_changed_is_not_committed(options: WriteOptions) -> None:
    (receipt,) = stage(options, [0, 0, 0, 0, 0, 0])
    Path(receipt.path).write_bytes(bytes(receipt.num_bytes))
    with pytest.raises(JobError, match="should have the sha256"):
        move_shard(receipt, "embeddings/embeddings-00000-of-00001.parquet", options)


def test_work_on_a_run_that_another_job_finished_stops(options: WriteOptions) -> None:
    run_once(options, [0, 0, 0, 0, 0, 0])
    with pytest.raises(JobError, match="holds a finished run of another job"):
        run_once(replace(options, attempt_id="b" * 32), [0, 1, 2, 0, 1, 2])
    assert_exact_but_staging(options)


def assert_exact_but_staging(options: WriteOptions) -> None:
    shutil.rmtree(Path(options.output) / "run/_staging", ignore_errors=True)
    assert_exact(options)

"""Attempts that stand still or die anywhere and go on in any order: the run is always absent or exact."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.errors import JobError
from beam_jobs.pipeline.write.commit import _claimed, commit
from beam_jobs.pipeline.write.description import RunDescription
from beam_jobs.pipeline.write.moves import SENTINEL, move_shard, plan_commit, reserve_names
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.store.manifest import RunManifest
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import find_manifest
from tests.support.faults.schedules import Attempt, Killed, attempts, run_schedule

SCHEMA = pa.schema([pa.field("doc_id", pa.string())])
DESCRIPTION = RunDescription(
    started_at="2026-01-01T00:00:00+00:00",
    bundle={"name": "tiny", "digest": "0" * 64},
    settings_digest="1" * 64,
    precision="float32",
    config={},
    limits=FailureLimits(),
    versions={},
)
# Two attempts, and the first one a second time, as an engine does that runs the whole job again.
WHO = ("a", "b", "a")
FILES = ([["x", "y"], ["z"]], [["z", "x"], ["y"]], [["x"], ["y"], ["z"]])
NUM_STEPS = 120


class World:
    """A run's folder with the shards that each attempt has staged."""

    def __init__(self, folder: str) -> None:
        self.root = Path(folder, "out", "run")
        some = WriteOptions(f"{folder}/out", "run", attempt_id="", report=False, claim_in_job=True)
        self.options = [replace(some, attempt_id=who * 32) for who in WHO]
        self.receipts = [[self._stage(ids) for ids in files] for files in FILES]

    def _stage(self, ids: list[str]) -> Receipt:
        shard = Shard(str(self.root / "_staging"), "embeddings", SCHEMA)
        shard.write(pa.RecordBatch.from_pydict({"doc_id": ids}, schema=SCHEMA))
        return shard.close("float32")

    def work(self, which: int) -> RunManifest:
        """What the job does once its shards are there."""
        options = self.options[which]
        _claimed("", options)
        plan = reserve_names(plan_commit(0, [*self.receipts[which], 3, SENTINEL]), options)
        for receipt, name in plan.moves:
            move_shard(receipt, name, options)
        return commit(plan, options, DESCRIPTION)

    def check(self) -> None:
        """A manifest lists files that are there, with the bytes that it says, and every document once."""
        path = self.root / "manifest.json"
        if not path.exists():
            return
        manifest = RunManifest.from_bytes(path.read_bytes(), str(path))
        ids: list[str] = []
        for file in manifest.files:
            data = (self.root / file.path).read_bytes()
            assert hashlib.sha256(data).hexdigest() == file.sha256
            ids += pq.read_table(self.root / file.path).column("doc_id").to_pylist()
        assert sorted(ids) == ["x", "y", "z"]

    def check_end(self, started: list[Attempt]) -> None:
        """After all have ended: exact, with nothing beside it if the winner was not killed."""
        self.check()
        for attempt in started:
            assert attempt.error is None or isinstance(attempt.error, JobError | Killed | FileNotFoundError)
        if any(isinstance(attempt.error, Killed) for attempt in started):
            return
        manifest = find_manifest(str(self.root))
        assert manifest is not None
        listed = {file.path for file in manifest.files}
        assert {str(p.relative_to(self.root)) for p in self.root.glob("[!_]*/*")} == listed


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    order=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 25), st.integers(0, 12)), max_size=12),
)
def test_after_any_schedule_the_run_is_absent_or_exact(order: list[tuple[int, int, int]]) -> None:
    """Each entry lets one attempt do some steps; where the last number is 0, it dies after them."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder)
        works = [lambda which=which: world.work(which) for which in range(len(WHO))]
        steps = [
            (who, death == 0 and at == number - 1) for who, number, death in order for at in range(number)
        ]
        with attempts(*works) as started:
            run_schedule(started, steps, world.check)
            world.check_end(started)


@pytest.mark.slow
@pytest.mark.parametrize("second", [1, 2], ids=["another attempt", "the same one again"])
def test_an_attempt_stands_still_anywhere_while_another_goes_on(second: int, tmp_path: Path) -> None:
    """Every place where the first stands, with the second done or itself standing still in its moves."""
    for first_stands in range(0, 40, 3):
        for second_stands in (12, 16, 20, NUM_STEPS):
            world = World(str(tmp_path / f"{first_stands}-{second_stands}"))
            works = [lambda w=world: w.work(0), lambda w=world: w.work(second)]
            with attempts(*works) as started:
                order = [(0, False)] * first_stands + [(1, False)] * second_stands
                run_schedule(started, order, world.check)
                world.check_end(started)


def test_a_suspended_attempt_does_not_write_its_manifest_over_another_ones_files(tmp_path: Path) -> None:
    """It stands between its last look and its manifest, while another one has moved its files."""
    world = World(str(tmp_path))
    with attempts(lambda: world.work(0), lambda: world.work(1)) as (first, second):
        while not first.has_ended and not (world.root / "embeddings").exists():
            first.step()
        while len([*world.root.glob("embeddings/*")]) < 2:
            first.step()
        for _ in range(9):  # looks at claim and manifests, at sizes and digests
            first.step()
        assert not (world.root / "manifest.json").exists()
        while len([*world.root.glob("embeddings/*")]) < 4 and not second.has_ended:
            second.step()
        run_schedule([first, second], [], world.check)
        assert first.result is not None
        assert isinstance(second.error, JobError)
        world.check_end([first, second])

"""Whatever an engine and a storage do to a job, its run is absent or exact, and can be finished."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.base.records import DeadLetter
from beam_jobs.pipeline.rows.cost import COST_KEYS
from beam_jobs.pipeline.write import commit, moves, shard
from beam_jobs.pipeline.write.stop import StopWhenEnded
from beam_jobs.pipeline.write.transform import RunInputs, WriteRun
from beam_jobs.store import filesystem
from beam_jobs.store.latest import read_latest
from beam_jobs.store.manifest import RunManifest
from tests.support.examples import examples
from tests.support.faults.hostile_engine import HostileEngine, Job, Node, Tape, graph_of
from tests.support.faults.memory_store import MemoryStore
from tests.support.runs.descriptions import description

SCHEMA = pa.schema([pa.field("doc_id", pa.string())])
DESCRIPTION = description(FailureLimits(max_dead_fraction=1.0))
IDS = ["a", "b", "c", "d", "bad"]
ROOT = "/out"
RUN = f"{ROOT}/run"
CLAIM = f"{RUN}/_staging/attempt"
TAPE_BYTES = 240
SCHEDULES = int(os.environ.get("TESTS_SCHEDULES", examples(500)))
ZEROS = {key.encode(): b"0" for key in COST_KEYS}
# Steps without calls to the storage run at once, which saves time.
PURE = ("Encode", "NumRead", "BatchDeadLetters", "ToOne", "/Plan", "/List")


class _EncodeDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Stands for the model: rows of a bundle's documents together, and a dead letter."""

    def start_bundle(self) -> None:
        self._ids: list[str] = []

    def process(self, name: str) -> Iterator[Any]:
        if name == "bad":
            yield beam.pvalue.TaggedOutput("dead", DeadLetter(name, "in", "encode", "failed", "no", None))
        else:
            self._ids.append(name)

    def finish_bundle(self) -> Iterator[pa.RecordBatch]:
        if self._ids:
            metadata = ZEROS | {b"num_documents": str(len(self._ids)).encode()}
            yield pa.RecordBatch.from_pydict({"doc_id": self._ids}, schema=SCHEMA.with_metadata(metadata))


@functools.cache
def job(attempt: str) -> list[Node]:
    """Returns the graph of a job: documents, a stand-in for the model, and all that the product does then."""
    options = WriteOptions(ROOT, "run", attempt_id=attempt * 32, report=False, claim_in_job=True)

    def build(pipeline: Any) -> None:
        documents = pipeline | "Documents" >> beam.Create(IDS)
        read = pipeline | "NumRead" >> beam.Create([len(IDS)])
        left = documents | "Stop" >> StopWhenEnded(options)
        encoded = left | "Encode" >> beam.ParDo(_EncodeDoFn()).with_outputs("dead", main="rows")
        _ = RunInputs(encoded.rows, encoded.dead, read) | "Write" >> WriteRun(options, SCHEMA, DESCRIPTION)

    return graph_of(build, PURE)


@functools.lru_cache(maxsize=256)
def ids_in(data: bytes) -> tuple[str, ...]:
    return tuple(pq.read_table(io.BytesIO(data)).column("doc_id").to_pylist())


@functools.lru_cache(maxsize=256)
def parsed(data: bytes) -> RunManifest:
    return RunManifest.from_bytes(data, "")


def check(store: MemoryStore) -> RunManifest | None:
    """A manifest lists files that are there, with the bytes that it says, and every document once."""
    data = store.files.get(f"{RUN}/manifest.json")
    if data is None:
        return None
    manifest = parsed(data)
    ids: list[str] = []
    for file in manifest.files:
        content = store.files.get(f"{RUN}/{file.path}")
        assert content is not None, f"{file.path} is missing"
        assert hashlib.sha256(content).hexdigest() == file.sha256, f"{file.path} is another file"
        ids += ids_in(content)
    assert sorted(ids) == sorted(IDS)
    return manifest


class Checker:
    """Checks after each step, and that a manifest is never replaced."""

    def __init__(self) -> None:
        self._first: RunManifest | None = None
        self._seen: tuple[Any, ...] = ()

    def __call__(self, store: MemoryStore) -> None:
        kept = tuple(map(id, store.files.values()))
        if kept == self._seen:  # nothing has changed
            return
        self._seen = kept
        manifest = check(store)
        self._first = self._first or manifest
        assert manifest == self._first, "a manifest was replaced or removed"


@contextmanager
def counted_names() -> Iterator[None]:
    """Names of shards and their times are numbers, so that a schedule does the same each time."""
    numbers = itertools.count(1)
    counted = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{next(numbers):032x}"))
    ticking = SimpleNamespace(time_ns=lambda: next(numbers))
    with mock.patch.multiple(shard, uuid=counted, time=ticking):
        yield


def play(tape: bytes) -> None:
    """Plays a schedule, and then lets one attempt run on an engine that behaves."""
    with counted_names():
        engine = HostileEngine({"a": job("a"), "b": job("b")}, Tape(tape), Checker())
        engine.run()
        check_end(engine)


def check_end(engine: HostileEngine) -> None:
    """The run can be finished, and nothing is left but its files."""
    manifest = check(engine.store)
    who = "c" if manifest is None else manifest.attempt_id[0]
    last = engine.run_quietly(who, job(who))
    assert not last.has_failed
    manifest = check(engine.store)
    assert manifest is not None
    expected = {f"{RUN}/{file.path}" for file in manifest.files}
    assert engine.store.files.keys() == expected | {f"{RUN}/manifest.json", f"{ROOT}/latest.json"}
    with engine.store.installed():
        latest = read_latest(ROOT)
    assert latest is not None
    assert latest.run_id == "run"


def test_a_well_behaved_engine_writes_the_run() -> None:
    play(b"")


def test_a_job_stops_when_a_later_one_claims_its_folder() -> None:
    with counted_names():
        engine = HostileEngine({"a": job("a")}, Tape(b""), Checker())
        first, other = engine.jobs[0], Job("b", job("b"))
        engine.jobs.append(other)
        with engine.store.installed():
            for each in engine.jobs:
                while engine.store.files.get(CLAIM) != each.name.encode() * 32 and not each.has_ended():
                    engine.go_on(each, 1)
            while not first.has_ended():
                engine.go_on(first, 1)
            assert first.has_failed
            assert check(engine.store) is None
        engine.run()
        manifest = check(engine.store)
        assert manifest is not None
        assert manifest.attempt_id == "b" * 32
        check_end(engine)


@pytest.mark.parametrize("second", ["a", "b"], ids=["the same one again", "another attempt"])
@pytest.mark.parametrize("renames_at_once", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_job_stands_still_anywhere_while_another_goes_on(second: str, renames_at_once: bool) -> None:
    for number in itertools.count():
        with counted_names():
            engine = HostileEngine({"a": job("a")}, Tape(bytes([not renames_at_once])), Checker())
            first, other = engine.jobs[0], Job(second, job(second))
            with engine.store.installed():
                engine.go_on(first, number)
                if first.has_ended():
                    break
                engine.jobs.append(other)
                while not other.has_ended():
                    engine.go_on(other, 1)
            engine.run()
            check_end(engine)
    assert number > 40


@pytest.mark.slow
def test_an_attempt_stands_still_anywhere_until_another_one_does() -> None:
    """Above all between its last look and its manifest, while the other has moved some of its shards."""
    for number in itertools.count(15, 2):  # the first calls are those of staging
        for later in range(15, 75, 2):
            with counted_names():
                engine = HostileEngine({"a": job("a")}, Tape(b""), Checker())
                first, other = engine.jobs[0], Job("b", job("b"))
                with engine.store.installed():
                    engine.go_on(first, number)
                    if first.has_ended():
                        return
                    engine.jobs.append(other)
                    engine.go_on(other, later)
                    while not first.has_ended():
                        engine.go_on(first, 1)
                engine.run()
                check_end(engine)


@settings(max_examples=SCHEDULES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=TAPE_BYTES, max_size=TAPE_BYTES))
def test_after_any_schedule_the_run_is_absent_or_exact(tape: bytes) -> None:
    play(tape)


def play_many(number: int) -> None:
    for seed in range(number):
        play(random.Random(seed).randbytes(TAPE_BYTES))


def no_names(plan: moves.CommitPlan, _: WriteOptions) -> moves.CommitPlan:
    return plan


def moved_before(source: str, target: str, size: int) -> None:
    if filesystem.size_of(target) != size:
        MOVE(source, target, size)


def replaced(store: MemoryStore, path: str, data: bytes) -> bool:
    store.replace(path, data)
    return True


def nothing(*_: Any) -> None:
    return None


MOVE = filesystem.move
TAKEN_OUT: dict[str, list[tuple[Any, str, Any]]] = {
    "plans share names": [(commit, "reserve_names", no_names)],
    "and moves look at nothing": [(commit, "reserve_names", no_names), (moves, "check_claim", nothing)],
    "and equal sizes count as moved": [
        (commit, "reserve_names", no_names),
        (filesystem, "move", moved_before),
    ],
    "a second commit looks at nothing": [(commit, "check_claim", nothing)],
    "a manifest is replaced": [(MemoryStore, "create_if_absent", replaced)],
    "strays stay": [(commit, "_remove_strays", nothing)],
    "staged files stay": [(MemoryStore, "delete_folder", nothing)],
}


@pytest.mark.slow
@pytest.mark.parametrize("what", TAKEN_OUT)
def test_the_engine_notices_when_a_fix_is_taken_out(what: str) -> None:
    with ExitStack() as stack:
        for owner, name, other in TAKEN_OUT[what]:
            stack.enter_context(mock.patch.object(owner, name, other))
        stack.callback(job.cache_clear)
        job.cache_clear()
        with pytest.raises(AssertionError):
            play_many(1000)

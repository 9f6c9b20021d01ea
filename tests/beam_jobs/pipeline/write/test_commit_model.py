"""The model of the commit keeps its invariants in every state, and the code does what the model does."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import JobError
from beam_jobs.pipeline.write.commit import _claimed, commit
from beam_jobs.pipeline.write.moves import SENTINEL, move_shard, plan_commit, reserve_names
from beam_jobs.store.receipt import Receipt
from tests.support.faults import commit_model
from tests.support.faults.commit_model import Process, Store, is_over, listed, reachable, start, step
from tests.support.faults.hostile_engine import Killed
from tests.support.faults.memory_store import MemoryStore
from tests.support.runs.descriptions import description

ROOT = "/out/run"
# Two attempts, and the first one's whole job a second time.
TWO = (Process("a", 0), Process("b", 1))
AGAIN = (Process("a", 0), Process("a", 2))
DESCRIPTION = description()


def check(after: Store, before: Store, num_shards: int) -> None:
    """Absent or exact, one decision, one plan per name, nobody deletes early."""
    assert set(listed(after, num_shards)) <= after.final
    assert before.manifest in (None, after.manifest)
    for name, shard in before.final:
        assert dict(after.final).get(name, shard) == shard
    if after.manifest is None:
        assert len(before.final) <= len(after.final)


def finish(store: Store, num_shards: int) -> Store:
    """Lets a new attempt, or the one that has finished, run by itself."""
    who = "c" if store.manifest is None else store.manifest[0]
    last = Process(who, 9)
    store = store._replace(staged=store.staged | {(9, i) for i in range(num_shards)})
    while not is_over(last):
        _, last, store = step(last, store, num_shards)
    assert last.at == "done"
    return store


@pytest.mark.parametrize(
    ("processes", "num_shards"),
    [(TWO, 3), (AGAIN, 3), ((*TWO, Process("a", 2)), 1)],
    ids=["two attempts", "the whole job again", "all three"],
)
def test_every_state_is_absent_or_exact_and_can_be_finished(
    processes: tuple[Process, ...], num_shards: int
) -> None:
    finished: set[Store] = set()
    ends: set[tuple[str, ...]] = set()
    for some, after, before in reachable(
        processes, start({p.plan: num_shards for p in processes}), num_shards
    ):
        check(after, before, num_shards)
        if all(map(is_over, some)):
            ends.add(tuple(sorted(process.at for process in some)))
            assert after.manifest is not None, "progress: somebody finishes if nobody crashes"
        if after not in finished:  # all others have crashed here
            finished.add(after)
            last = finish(after, num_shards)
            assert set(listed(last, num_shards)) == last.final
            assert not last.staged
            assert last.latest
    assert ends


@pytest.mark.parametrize(
    "mutation",
    ["plans share names", "a manifest is replaced", "deletes before the manifest", "moves take any file"],
)
def test_the_model_notices_when_a_step_is_taken_out(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = commit_model.step

    def wrong(process: Process, store: Store, num_shards: int) -> tuple[str, Process, Store]:
        name, moved, after = right(process, store, num_shards)
        if mutation == "plans share names" and process.at in ("reserve", "names"):
            moved = moved._replace(at="looks", is_plain=True)
        if mutation == "a manifest is replaced" and process.at == "create":
            after = store._replace(manifest=(process.who, process.plan, process.is_plain))
            moved = process._replace(at="check")
        if mutation == "deletes before the manifest" and process.at == "sizes" and moved.at == "create":
            after = store._replace(final=frozenset(p for p in store.final if p[1][0] == process.plan))
        if mutation == "moves take any file" and process.at == "digest" and moved.at == "stopped":
            moved = process._replace(at="look", shard=0)
            after = store._replace(manifest=(process.who, process.plan, process.is_plain))
        return name, moved, after

    monkeypatch.setattr(commit_model, "step", wrong)
    with pytest.raises(AssertionError):
        test_every_state_is_absent_or_exact_and_can_be_finished(TWO, 2)


class World:
    """Real commits over a storage in memory, where a process dies before one of its calls."""

    def __init__(self, num_shards: int) -> None:
        self.store = MemoryStore(self._before)
        self.num_shards, self.left = num_shards, -1
        for plan in (0, 1, 2):
            for i in range(num_shards):
                self.store.files[f"{ROOT}/_staging/{plan}-{i}"] = self.content(plan, i)

    def content(self, plan: int, shard: int) -> bytes:
        return f"{plan}-{shard}".encode()

    def _before(self, *_: Any) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def run(self, process: Process, num_calls: int) -> list[tuple[str, str, Any]]:
        """Runs a process for so many calls and returns them."""
        self.left, self.store.trace = num_calls, []
        options = WriteOptions("/out", "run", attempt_id=process.who * 32, report=False, claim_in_job=True)
        receipts = [self._receipt(process.plan, i) for i in range(self.num_shards)]
        with self.store.installed():
            try:
                _claimed("", options)
                plan = reserve_names(plan_commit(0, [*receipts, self.num_shards, SENTINEL]), options)
                for receipt, name in plan.moves:
                    move_shard(receipt, name, options)
                commit(plan, options, DESCRIPTION)
            except (Killed, JobError, FileNotFoundError):
                pass
        return self.store.trace

    def _receipt(self, plan: int, shard: int) -> Receipt:
        data = self.content(plan, shard)
        digest = hashlib.sha256(data).hexdigest()
        path = f"{ROOT}/_staging/{plan}-{shard}"
        counts = {"num_documents": 1}
        return Receipt("embeddings", path, 1, len(data), digest, shard, "float32", counts)

    def state(self) -> tuple[bool, str | None, set[str], set[bytes]]:
        """Returns whether there is a manifest, the claim, what is staged, and the contents of final files."""
        files = self.store.files
        claim = files.get(f"{ROOT}/_staging/attempt")
        staged = {f.rpartition("/")[2] for f in files if "/_staging/" in f and f[-2] == "-"}
        final = {data for path, data in files.items() if f"{ROOT}/embeddings/" in path}
        return f"{ROOT}/manifest.json" in files, None if claim is None else claim[:1].decode(), staged, final


FILES = {"manifest.json": "manifest", "_staging/attempt": "attempt", "_staging/names": "names"}
VERBS = {"read_bytes": "read", "create_if_absent": "create", "size_of": "size", "sha256_of": "digest"}


def label(name: str, path: str) -> str | None:
    """Returns what the model calls a call; None for those that it leaves out."""
    place = path.removeprefix(f"{ROOT}/")
    kind = place.partition("/")[0]
    if name == "list_files":
        return "list" if kind == "embeddings" else None
    if place.endswith("latest.json"):
        return "update latest" if name == "update" else None
    if kind == "manifest.failed.json":
        return None
    verb = VERBS.get(name, name)
    if verb in ("digest", "rename"):
        return verb
    file = FILES.get(place, "staged" if kind == "_staging" else "final")
    return "delete staged" if verb == "delete" and kind == "_staging" else f"{verb} {file}"


def replay(world: World, process: Process, store: Store, num_calls: int) -> Store | None:
    """Runs a process in the code and follows its calls in the model; None if it died while it deleted."""
    calls = [known for name, path, _ in world.run(process, num_calls) if (known := label(name, path))]
    deleting = False
    for call in calls:
        if call == "delete staged" and deleting:
            continue  # one step of the model
        deleting = call == "delete staged"
        expected, process, store = step(process, store, world.num_shards)
        assert call == expected, calls
    if num_calls > 10**6:
        assert is_over(process)
    if deleting:  # it may have died in the middle
        return None
    final = {world.content(*shard) for _, shard in store.final}
    staged = {f"{plan}-{i}" for plan, i in store.staged}
    assert world.state() == (store.manifest is not None, store.claim, staged, final)
    return store


@pytest.mark.parametrize("second", [Process("b", 1), Process("a", 2)], ids=["another attempt", "again"])
def test_the_code_takes_the_steps_of_the_model(second: Process) -> None:
    """The first process dies before each of its calls, and another one runs to its end."""
    for num_calls in (*range(90), 10**9):
        world = World(3)
        store = replay(world, Process("a", 0), start({0: 3, 1: 3, 2: 3}), num_calls)
        if store is not None:
            replay(world, second, store, 10**9)

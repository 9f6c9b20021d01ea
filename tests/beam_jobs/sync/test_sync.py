"""``beam_jobs.sync``: a table holds exactly the rows of a run, whatever happened before."""

from __future__ import annotations

import io
import random
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_jobs.sync.apply import sync
from beam_jobs.sync.progress import Progress, describe
from tests.support.runs.made_runs import BUNDLE, make_changes, make_run
from tests.support.stores.targets import (
    DIM,
    LanceTarget,
    PostgresTarget,
    QdrantTarget,
    State,
    Target,
    bring,
    call,
    letters,
    opened,
    rows_of,
    shards,
)

_SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("postgresql", "qdrant")]


@pytest.fixture(params=["lancedb", *_SLOW])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """An empty database of each kind."""
    if request.param == "lancedb":
        return LanceTarget(tmp_path / "store")
    if request.param == "qdrant":
        pytest.importorskip("qdrant_client")
        return QdrantTarget(tmp_path / "store")
    url = request.getfixturevalue("postgres_url")
    name = f"test{abs(hash(request.node.name)) % 10**12}"
    PostgresTarget(url).query(f"DROP DATABASE IF EXISTS {name}")
    PostgresTarget(url).query(f"CREATE DATABASE {name}")
    return PostgresTarget(url.replace("/postgres?", f"/{name}?"))


@pytest.mark.slow
def test_a_month_of_nights(target: Target, tmp_path: Path) -> None:
    """Complete runs and runs of changes; days skipped, repeated, broken off and gone backwards."""
    chance = random.Random(5)
    state = letters("abcdefghijklmno")
    runs = [make_run(tmp_path, "r0", shards(state))]
    for night in range(1, 11):
        before = dict(state)
        for name in chance.sample(sorted(state), 2):  # changed
            state[name] = (night * 100 + ord(name[0]), state[name][1])
        for name in chance.sample(sorted(state), 2):  # removed
            del state[name]
        moved = chance.choice(sorted(state))
        state[f"{moved[0]}{night}"] = state.pop(moved)
        state[f"new{night}"] = (night, "new")
        if night % 3 == 0:  # kept columns alone
            name = chance.choice(sorted(state))
            state[name] = (state[name][0], f"updated {night}")
            runs.append(make_run(tmp_path, f"r{night}", shards(state)))
            continue
        written = {name: row for name, row in state.items() if before.get(name) != row}
        change = {name: "changed" if name in before else "added" for name in written}
        change |= {name: "removed" for name in before if name not in state}
        last = runs[-1].name
        size = len(state)
        made = make_changes(tmp_path, f"r{night}", last, shards(written), change, num_documents=size)
        runs.append(made)
    said = [bring(target, runs[night]) for night in (0, 1, 2, 2, 3, 5, 7, 8, 6, 6, 9, 10)]
    assert "the first run" in said[0]
    assert "already; nothing was written" in said[3]
    assert "the changes since r3" in said[5]
    assert "what differs from r5" in said[6]
    assert [line for line in said if "everything" in line] == []
    assert call(runs[10], *target.to, "--check")[:1] == (0,)


def test_a_second_call_writes_nothing(target: Target, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", shards(letters("abcdef")))
    bring(target, run)
    before = target.state()
    assert "nothing was written" in bring(target, run)
    assert call(run, *target.to, "--check")[0] == 0
    assert target.state() == before


def test_a_table_that_others_changed_is_not_called_the_run(target: Target, tmp_path: Path) -> None:
    one = make_run(tmp_path, "a", shards(letters("abcdef")))
    two = make_run(tmp_path, "b", shards(letters("abcdefg")))
    bring(target, one)
    target.run("delete c")
    for run, there in ((one, "5 rows, the run 6"), (two, "6 rows, the run 7")):
        code, out, err = call(run, *target.to)
        assert (code, out) == (1, "")
        assert there in err
        assert "--everything" in err
    bring(target, two, "--everything")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["delete", "add", "optimize"])
def test_lancedb_ends_inside_a_batch(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lancedb.table import LanceTable

    target = LanceTarget(tmp_path / "store")
    old, new = two_states()
    bring(target, make_run(tmp_path, "a", shards(old)))
    two = make_run(tmp_path, "b", shards(new))
    original = getattr(LanceTable, verb)
    with monkeypatch.context() as patch:

        def done_and_over(self: Any, *arguments: Any, **named: Any) -> None:
            original(self, *arguments, **named)
            if self.name == "embeddings":
                raise OSError("No space left on device")

        patch.setattr(LanceTable, verb, done_and_over)
        code, _, err = call(two, *target.to)
        assert code == 1
        assert "No space left on device" in err
    assert call(two, *target.to, "--check")[0] == 1
    bring(target, two)


class CrashError(Exception):
    """An injected end of the process."""


class CrashingStore:
    """Passes everything on, and ends before or after the n-th thing that is written."""

    def __init__(self, store: Any, at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._counted(found) if name in ("begin", "write") else found

    def _counted(self, write: Any) -> Any:
        def counted(*arguments: Any) -> None:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise CrashError
            write(*arguments)
            if self._left < 0:
                raise CrashError

        return counted


def crash(target: Target, run: Path, at: int, *, after: bool) -> bool:
    """Begins a sync that ends in the middle; returns whether it did."""
    found, layout, store, progress = opened(run, target)
    with closing(store):
        try:
            sync(found, layout, CrashingStore(store, at, after=after), progress)
        except CrashError:
            return True
    return False


def two_states() -> tuple[State, State]:
    old = letters("abcdefghijkl")
    new = letters("bcdefghijmn") | letters("ce", seed=2) | {"h": (ord("h"), "updated")}
    return old, new


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("way", ["first", "compared", "changes", "everything"])
def test_ends_anywhere_and_is_called_again(target: Target, tmp_path: Path, way: str, after: bool) -> None:
    old, new = two_states()
    one = make_run(tmp_path, "a", shards(old))
    if way == "changes":
        del new["h"]
        change = dict.fromkeys("ce", "changed") | {"m": "added", "n": "added"}
        change |= dict.fromkeys("ahl", "removed")
        rows = {name: new[name] for name in "cemn"}
        two = make_changes(tmp_path, "b", "a", shards(rows), change, num_documents=len(new))
    else:
        two = make_run(tmp_path, "b", shards(new))
    for at in range(40):
        if isinstance(target, PostgresTarget):
            target.query("DROP TABLE IF EXISTS embeddings, beam_jobs_sync")
        else:
            shutil.rmtree(tmp_path / "store", ignore_errors=True)
        if way != "first":
            bring(target, one)
        if way == "everything":
            shutil.move(one, tmp_path / "elsewhere")
        ended = crash(target, two, at, after=after)
        if ended and not after:
            assert call(two, *target.to, "--check")[0] == 1
        bring(target, two)
        if way == "everything":
            shutil.move(tmp_path / "elsewhere", one)
        if not ended:
            break
    assert at > (2 if way != "compared" else 1)


@pytest.mark.slow
def test_an_interrupted_sync_and_then_another_run(target: Target, tmp_path: Path) -> None:
    """What was written of b is neither a's nor c's, and a comparison of these would not find it."""
    runs = [
        make_run(tmp_path, name, shards(state))
        for name, state in (("a", letters("abcd")), ("b", letters("abcd", seed=1)), ("c", letters("abcde")))
    ]
    bring(target, runs[0])
    assert crash(target, runs[1], 2, after=False)
    assert "it was being brought to another run, b" in bring(target, runs[2])
    assert crash(target, runs[1], 2, after=False)
    assert "everything" in bring(target, runs[2])


def test_the_run_that_it_holds_is_gone(target: Target, tmp_path: Path) -> None:
    first = make_run(tmp_path, "a", shards(letters("abcdef")))
    bring(target, first)
    shutil.rmtree(first)
    said = bring(target, make_run(tmp_path, "b", shards(letters("bcdefgh"))))
    assert "the run a, which the table holds, does not exist any more" in said


def test_a_run_of_the_same_name_is_another_one(target: Target, tmp_path: Path) -> None:
    bring(target, make_run(tmp_path, "a", shards(letters("abc"))))
    shutil.rmtree(tmp_path / "a")
    said = bring(target, make_run(tmp_path, "a", shards(letters("abd"))))
    assert "does not exist any more" in said


def test_windows_go_with_their_document(target: Target, tmp_path: Path) -> None:
    def windows(counts: dict[str, int], seed: int) -> list[dict[str, Any]]:
        ids = [name for name, number in counts.items() for _ in range(number)]
        places = [at for number in counts.values() for at in range(number)]
        vectors = [
            np.random.default_rng(ord(n) + p + seed).normal(size=DIM)
            for n, p in zip(ids, places, strict=True)
        ]
        spans = {"char_start": places, "char_end": places}
        return [{"ids": ids, "window_index": places, "vectors": vectors, **spans}]

    one = make_run(tmp_path, "a", windows({"a": 7, "b": 1, "c": 5}, 0))
    two = make_run(tmp_path, "b", windows({"a": 3, "c": 6, "d": 2}, 0))
    for run in (one, two, one):
        bring(target, run)
        assert call(run, *target.to, "--check")[0] == 0


def test_check_finds_what_others_did(target: Target, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", shards(letters("abcdef")))
    if not isinstance(target, PostgresTarget):
        assert call(run, *target.to, "--check")[0] == 2  # no folder
    else:
        assert "does not exist" in call(run, *target.to, "--check")[1]
    bring(target, run)
    other = make_run(tmp_path, "b", shards(letters("abcdeg") | letters("b", seed=1)))
    code, out, _ = call(other, *target.to, "--check")
    assert code == 1
    assert "it holds the run a, expected b" in out
    assert "of 7 documents compared" not in out
    assert "of 6 documents compared, 2 have other vectors or rows, such as 'b'" in out
    target.run("delete c")
    out = call(run, *target.to, "--check")[1]
    assert "it has 5 rows, expected 6" in out
    assert "as asked by --everything" in bring(target, run, "--everything")
    assert call(run, *target.to, "--check")[0] == 0


def test_a_dropped_table_is_made_anew(target: Target, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", shards(letters("abc")))
    bring(target, run)
    target.run("drop")
    assert "the first run" in bring(target, run)


def other_runs(root: Path) -> dict[str, Path]:
    """Runs that do not fit into a table with the run of these tests, by what is said of them."""
    state = letters("abc")
    wide = [{**shard, "vectors": np.ones((len(shard["ids"]), 6))} for shard in shards(state)]
    more = [{**shard, "year": [2026] * len(shard["ids"])} for shard in shards(state)]
    twice = [*shards(state), *shards(letters("b"))]
    return {
        "another dimension": make_run(root, "wide", wide),
        "another columns": make_run(root, "more", more),
        "another bundle": make_run(root, "model", shards(state), bundle=BUNDLE | {"digest": "e" * 64}),
        "'b' is the id of several documents": make_run(root, "twice", twice),
    }


def test_what_does_not_fit_is_refused_before_anything_is_written(target: Target, tmp_path: Path) -> None:
    bring(target, make_run(tmp_path, "a", shards(letters("abc"))))
    before = target.state()
    for said, run in other_runs(tmp_path).items():
        code, out, err = call(run, *target.to)
        assert (code, out) == (2, "")
        assert said in err
        assert "Nothing was written" in err
        assert len(err.strip().splitlines()) == 1
        assert target.state() == before
        if "several" not in said:
            assert call(run, *target.to, "--table", said.rpartition(" ")[2])[0] == 0
            before = target.state()


def test_a_table_of_others_is_refused(target: Target, tmp_path: Path) -> None:
    target.make_foreign()
    before = target.state()
    run = make_run(tmp_path, "a", shards(letters("abc")))
    code, _, err = call(run, *target.to)
    assert code == 2
    assert "exists, and no sync made it. Name another --table. Nothing was written." in err
    assert target.state() == before
    assert call(run, *target.to, "--table", "ours")[0] == 0
    assert target.rows("ours") == rows_of(run)


def test_two_at_once_are_refused(target: Target, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", shards(letters("abc")))
    *_, store, _ = opened(run, target)
    with closing(store):
        code, _, err = call(run, *target.to)
        assert code == 2
        assert "Another sync is writing to" in err
    bring(target, run)


@pytest.mark.slow
def test_names_that_a_condition_must_quote(target: Target, tmp_path: Path) -> None:
    state: State = {name: (at, "x") for at, name in enumerate(("it's", 'a"b', "ü\n", "%s", "\\", "{}", ""))}
    one = make_run(tmp_path, "a", shards(state))
    two = make_run(tmp_path, "b", shards({name: (at + 9, "y") for name, (at, _) in state.items() if at % 2}))
    for run in (one, two, one):
        bring(target, run)


def test_kept_columns_alone_are_noticed_whatever_their_names(tmp_path: Path) -> None:
    target = LanceTarget(tmp_path / "store")
    one = {
        "ids": ["a", "b"],
        "vectors": np.ones((2, DIM)),
        "rows": [1, 1],
        "hash": [1.5, None],
        "tags": [["x"], []],
    }
    bring(target, make_run(tmp_path, "0", [one]))
    for night, changed in enumerate(({"hash": [1.5, 2.0]}, {"tags": [["x", "y"], []]}, {"rows": [1, 2]}), 1):
        one |= changed
        assert "1 row written" in bring(target, make_run(tmp_path, str(night), [one]))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://host/db", "expected postgresql://USER@HOST/DATABASE, lancedb:FOLDER, qdrant:FOLDER or"),
        ("lancedb:", "expected postgresql://"),
        ("lancedb:store --table beam_jobs_sync", "the marks of all tables are there"),
        ("qdrant+http://127.0.0.1:1", "Connection refused"),
        ("lancedb:nowhere/at/all", "No such file or directory"),
    ],
)
def test_a_wrong_address(url: str, said: str, tmp_path: Path) -> None:
    if "qdrant" in url:
        pytest.importorskip("qdrant_client")
    run = make_run(tmp_path, "a", shards(letters("abc")))
    code, _, err = call(run, "--to", *url.split())
    assert code == 2
    assert said in err


def test_progress_is_a_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    times = iter(range(9))
    shown = Terminal()
    progress = Progress(shown, clock=lambda: float(next(times)))
    progress.start("the first run", 10)
    progress.add(4)
    progress.end()
    assert shown.getvalue() == "\r\x1b[KWriting the first run\n\r\x1b[K4 rows · 40 % · 4 rows/s\r\x1b[K"
    assert describe(3, None, 1.0) == "3 rows · 3 rows/s"

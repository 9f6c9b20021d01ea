"""The commit as a small state machine, one call to the storage at a time: docs/decisions/commit.md.

A process is one execution of a job after its shards are staged. It may stop before any step for good, which
is a crash, or stand there as long as it likes: both are states from which others go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Store(NamedTuple):
    """What is stored. A shard is its plan and number; ``final`` are pairs of a name and a shard.

    A name is a number and the plan that it belongs to, None for a plain one. ``manifest`` is an attempt, its
    plan and whether its names are plain.
    """

    claim: str | None
    names: int | None
    staged: frozenset[tuple[int, int]]
    final: frozenset[tuple[tuple[int, int | None], tuple[int, int]]]
    manifest: tuple[str, int, bool] | None = None
    latest: bool = False


class Process(NamedTuple):
    """An attempt with its plan, and where it stands: the next step, the shard, and what it will delete."""

    who: str
    plan: int
    at: str = "ended?"
    shard: int = 0
    is_plain: bool = True
    todo: tuple[object, ...] = ()


def start(plans: dict[int, int]) -> Store:
    """Returns a storage with the shards of some plans, given their numbers of shards."""
    return Store(None, None, frozenset((p, i) for p, n in plans.items() for i in range(n)), frozenset())


def step(process: Process, store: Store, num_shards: int) -> tuple[str, Process, Store]:  # noqa: C901  # a table
    """Performs the next call; returns what it was."""
    p = process
    name = (p.shard, None if p.is_plain else p.plan)
    final = dict(store.final)
    own = store.manifest is not None and store.manifest[0] == p.who
    foreign = store.manifest is not None and not own

    def after_look(then: str, when_own: Process) -> Process:
        return p._replace(at="stopped") if foreign else when_own if own else p._replace(at=then)

    def next_shard() -> Process:
        is_last = p.shard + 1 == num_shards
        return p._replace(at="look", shard=0) if is_last else p._replace(at="looks", shard=p.shard + 1)

    match p.at:
        case "ended?":
            return "read manifest", after_look("claim", p._replace(at="reserve?")), store
        case "claim":
            return "replace attempt", p._replace(at="reserve?"), store._replace(claim=p.who)
        case "reserve?":
            return "read manifest", after_look("reserve claim", p._replace(at="looks")), store
        case "looks":
            return "read manifest", after_look("move claim", next_shard()), store
        case "look":
            return "read manifest", after_look("commit claim", p._replace(at="check", todo=("read",))), store
        case "reserve claim" | "move claim" | "commit claim":
            then = {"reserve claim": "reserve", "move claim": "size", "commit claim": "sizes"}[p.at]
            is_ours = store.claim in (None, p.who)
            return "read attempt", p._replace(at=then if is_ours else "stopped"), store
        case "reserve":
            if store.names is None:
                return "create names", p._replace(at="looks"), store._replace(names=p.plan)
            return "create names", p._replace(at="names"), store
        case "names":
            return "read names", p._replace(at="looks", is_plain=store.names == p.plan), store
        case "size":
            is_there = (p.plan, p.shard) in store.staged
            return "size staged", p._replace(at="rename" if is_there else "size moved"), store
        case "rename":
            if (p.plan, p.shard) not in store.staged:
                return "rename", p._replace(at="digest"), store
            final[name] = (p.plan, p.shard)
            staged = store.staged - {(p.plan, p.shard)}
            return (
                "rename",
                p._replace(at="digest"),
                store._replace(staged=staged, final=frozenset(final.items())),
            )
        case "size moved":
            return "size final", p._replace(at="digest" if name in final else "stopped"), store
        case "digest":
            is_ours = final.get(name) == (p.plan, p.shard)
            return "digest", next_shard() if is_ours else p._replace(at="stopped"), store
        case "sizes":
            ours = {(i, name[1]) for i in range(num_shards)}
            return "list", p._replace(at="create" if ours <= final.keys() else "stopped"), store
        case "create":
            if store.manifest is not None:
                return "create manifest", p._replace(at="look"), store
            made = (p.who, p.plan, p.is_plain)
            return "create manifest", p._replace(at="check"), store._replace(manifest=made)
        case "check":
            is_whole = store.manifest is None or all(key in final for key, _ in listed(store, num_shards))
            todo = tuple(listed(store, num_shards)) if p.todo else ()
            then = ("digests" if todo else "latest") if is_whole else "withdraw"
            return "list", p._replace(at=then, todo=todo), store
        case "digests":
            pair, *rest = p.todo
            then = "withdraw" if pair not in store.final else "digests" if rest else "latest"
            return "digest", p._replace(at=then, todo=tuple(rest)), store
        case "withdraw":
            return "delete manifest", p._replace(at="stopped"), store._replace(manifest=None)
        case "latest":
            then = "delete" if store.claim or store.names is not None or store.staged else "strays"
            return "update latest", p._replace(at=then, todo=()), store._replace(latest=True)
        case "delete":
            gone = store._replace(claim=None, names=None, staged=frozenset())
            return "delete staged", p._replace(at="strays"), gone
        case "strays":
            names = {key for key, _ in listed(store, num_shards)}
            strays = tuple(sorted(final.keys() - names, key=str))
            return "list", p._replace(at="remove" if strays else "done", todo=strays), store
        case "remove":
            first, *others = p.todo
            kept = frozenset(pair for pair in store.final if pair[0] != first)
            then = "remove" if others else "done"
            return "delete final", p._replace(at=then, todo=tuple(others)), store._replace(final=kept)
    raise AssertionError(p.at)


def listed(store: Store, num_shards: int) -> list[tuple[tuple[int, int | None], tuple[int, int]]]:
    """Returns the names and shards that the manifest lists."""
    if store.manifest is None:
        return []
    _, plan, is_plain = store.manifest
    return [((i, None if is_plain else plan), (plan, i)) for i in range(num_shards)]


def is_over(process: Process) -> bool:
    """Whether the process makes no further call."""
    return process.at in ("done", "stopped")


def reachable(
    processes: tuple[Process, ...], store: Store, num_shards: int
) -> Iterator[tuple[tuple[Process, ...], Store, Store]]:
    """Yields every state that can be reached, with the storage before the step that led there."""
    seen = {(processes, store)}
    waiting = [(processes, store)]
    while waiting:
        some, before = waiting.pop()
        for at, process in enumerate(some):
            if is_over(process):
                continue
            _, moved, after = step(process, before, num_shards)
            state = ((*some[:at], moved, *some[at + 1 :]), after)
            yield *state, before
            if state not in seen:
                seen.add(state)
                waiting.append(state)

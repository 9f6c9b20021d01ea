"""Plans the final names of a run's shards, reserves them for one plan, and moves the shards there."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.records import DeadFile, UnchangedDocuments
from beam_jobs.store import filesystem
from beam_jobs.store.digest import check_digest
from beam_jobs.store.manifest import STAGING_DIR
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import check_claim

SENTINEL = "all receipts are in"
# Names the plan that may use the plain file names; deleted with the staging folder.
_NAMES = "names"
CHANGED_MEANWHILE = "something else is changing this folder, or the storage is damaged. Start a new run."


@dataclass(frozen=True)
class CommitPlan:
    """The final name of each staged shard, and the counts for the commit."""

    moves: tuple[tuple[Receipt, str], ...]
    num_read: int
    num_unchanged: int
    dead_files: tuple[DeadFile, ...]

    @property
    def digest(self) -> str:
        """Identifies the plan: another attempt, or the whole job again, has other staged shards."""
        paths = "\n".join(receipt.path for receipt, _ in self.moves)
        return hashlib.sha256(paths.encode()).hexdigest()


def plan_commit(_: int, entries: Iterable[Any]) -> CommitPlan:
    """Numbers the shards; the plan does not depend on the order of the entries."""
    entries = list(entries)
    if SENTINEL not in entries:
        raise AssertionError("the runner grouped receipts without their sentinel")
    receipts = sorted((e for e in entries if isinstance(e, Receipt)), key=lambda r: (r.opened_at, r.path))
    moves: list[tuple[Receipt, str]] = []
    for kind in sorted({receipt.kind for receipt in receipts}):
        ours = [receipt for receipt in receipts if receipt.kind == kind]
        names = (f"{kind}/{kind}-{i:05}-of-{len(ours):05}.parquet" for i in range(len(ours)))
        moves += zip(ours, names, strict=True)
    dead_files = sorted((e for e in entries if isinstance(e, DeadFile)), key=lambda f: f.source)
    num_unchanged = sum(e.number for e in entries if isinstance(e, UnchangedDocuments))
    return CommitPlan(
        tuple(moves), sum(e for e in entries if isinstance(e, int)), num_unchanged, tuple(dead_files)
    )


def reserve_names(plan: CommitPlan, options: WriteOptions) -> CommitPlan:
    """Reserves the plain file names for the first plan of a run; any later plan appends its digest to them.

    So two plans never move files to one name, however long one of them stood still: a move can leave a stray
    behind, but cannot replace a file that a manifest lists.

    Raises:
        JobError: another job finished this run, or claimed its folder later.
    """
    found = check_claim(options)
    if found is not None and found.attempt_id == options.attempt_id:
        return plan
    path = filesystem.join(options.output, options.run_id, STAGING_DIR, _NAMES)
    if filesystem.create_if_absent(path, plan.digest.encode()):
        return plan
    if filesystem.read_bytes(path) == plan.digest.encode():  # a retry
        return plan
    suffix = f"-{plan.digest[:8]}.parquet"
    moves = tuple((receipt, name.removesuffix(".parquet") + suffix) for receipt, name in plan.moves)
    return dataclasses.replace(plan, moves=moves)


class MoveShards(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Moves the shards of a plan to their final names, in parallel.

    Args:
        options: the run.
    """

    def __init__(self, options: WriteOptions) -> None:
        super().__init__()
        self._options = options

    def expand(self, plan: Any) -> Any:
        """Builds the step; returns the names."""
        return (
            plan
            | "List" >> beam.FlatMap(_moves)  # PCollection[tuple[Receipt, str]]
            | "Spread" >> beam.Reshuffle()  # PCollection[tuple[Receipt, str]]
            | "Move" >> beam.Map(_move, self._options)  # PCollection[str]
        )


def _moves(plan: CommitPlan) -> tuple[tuple[Receipt, str], ...]:
    return plan.moves


def _move(element: tuple[Receipt, str], options: WriteOptions) -> str:
    return move_shard(*element, options)


def move_shard(receipt: Receipt, name: str, options: WriteOptions) -> str:
    """Moves a staged shard to its final name and reads it again; leaves an ended run alone.

    Raises:
        JobError: another job owns the run, or the file was changed.
        FileNotFoundError: the shard is gone.
    """
    found = check_claim(options)
    if found is None or found.attempt_id != options.attempt_id:
        path = filesystem.join(options.output, options.run_id, *name.split("/"))
        filesystem.move(receipt.path, path, receipt.num_bytes)
        check_digest(path, receipt.sha256, CHANGED_MEANWHILE)
    return name

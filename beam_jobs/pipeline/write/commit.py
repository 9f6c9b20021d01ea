"""Commits a run: numbers, moves and checks its shards, then writes the manifest.

Every step is idempotent, because a runner may retry it. Receipts pass a GroupByKey together with a sentinel,
so the commit happens once with all of them, even if there are none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.records import DeadFile, UnchangedDocuments
from beam_jobs.errors import CountsError, JobError, TooManyDeadError
from beam_jobs.pipeline.write.counts import check_counts, sum_receipts, worker_costs
from beam_jobs.pipeline.write.description import RunDescription, copied_manifest
from beam_jobs.pipeline.write.timeline import sum_timeline
from beam_jobs.report.page import try_report
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import (
    CHANGES,
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    FAILED_NAME,
    MANIFEST_NAME,
    REPORT_NAME,
    DeadFileEntry,
    RunFile,
    RunManifest,
)
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import check_claim, claim, finish

# Keeps the manifest readable; further dead files are only counted.
_DEAD_FILES_LISTED = 1000
_FOLDERS = (EMBEDDINGS, CLASSES, DEAD_LETTERS, CHANGES)
_SENTINEL = "all receipts are in"


@dataclass(frozen=True)
class CommitPlan:
    """The final name of each staged shard, and the counts for the commit."""

    moves: tuple[tuple[Receipt, str], ...]
    num_read: int
    num_unchanged: int
    dead_files: tuple[DeadFile, ...]


class CommitRun(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Turns receipts, counts of documents read and dead files into a finished run.

    Args:
        options: the run.
        description: contents of its manifest.
    """

    def __init__(self, options: WriteOptions, description: RunDescription) -> None:
        super().__init__()
        self._options = options
        self._description = description

    def expand(self, entries: Any) -> Any:
        """Builds the step; returns the manifest as a PCollection of one."""
        sentinel = entries.pipeline | "Sentinel" >> beam.Create([_SENTINEL])  # PCollection[str]
        if self._options.claim_in_job:
            sentinel |= "Claim" >> beam.Map(_claimed, self._options)  # PCollection[str]
        plan = (
            (entries, sentinel)
            | "WithSentinel" >> beam.Flatten()  # PCollection[Receipt | int | DeadFile | str]
            | "ToOnePlan" >> beam.Map(_to_one_key)  # PCollection[tuple[int, …]]
            | "GatherReceipts" >> beam.GroupByKey()  # PCollection[tuple[int, Iterable[…]]]
            | "Plan" >> beam.MapTuple(plan_commit)  # PCollection[CommitPlan]
        )
        moved = (
            plan
            | "Moves" >> beam.FlatMap(_moves)  # PCollection[tuple[Receipt, str]]
            | "SpreadMoves" >> beam.Reshuffle()  # PCollection[tuple[Receipt, str]]
            | "Move" >> beam.ParDo(_MoveDoFn(self._options))  # PCollection[str]
        )
        return (
            (plan, moved)
            | "WithPlan" >> beam.Flatten()  # PCollection[CommitPlan | str]
            | "ToOneCommit" >> beam.Map(_to_one_key)  # PCollection[tuple[int, CommitPlan | str]]
            | "GatherMoves" >> beam.GroupByKey()  # PCollection[tuple[int, Iterable[CommitPlan | str]]]
            | "WriteManifest" >> beam.ParDo(_CommitDoFn(self._options, self._description))
        )  # PCollection[RunManifest]


def _claimed(sentinel: str, options: WriteOptions) -> str:
    """Claims the run's folder when the job starts; the receipts wait for this."""
    claim(options)
    return sentinel


def _to_one_key(element: Any) -> tuple[int, Any]:
    return 0, element


def plan_commit(_: int, entries: Iterable[Any]) -> CommitPlan:
    """Numbers the shards; the plan does not depend on the order of the entries."""
    entries = list(entries)
    if _SENTINEL not in entries:
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


def _moves(plan: CommitPlan) -> tuple[tuple[Receipt, str], ...]:
    return plan.moves


class _MoveDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Moves a staged shard to its final name."""

    def __init__(self, options: WriteOptions) -> None:
        self._options = options
        self._root = filesystem.join(options.output, options.run_id)

    def process(self, element: tuple[Receipt, str]) -> Iterator[str]:
        receipt, name = element
        check_claim(self._options)
        filesystem.move(receipt.path, filesystem.join(self._root, *name.split("/")), receipt.num_bytes)
        yield name


class _CommitDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Checks what was moved and writes the manifest."""

    def __init__(self, options: WriteOptions, description: RunDescription) -> None:
        self._options = options
        self._description = description

    def process(self, element: tuple[int, Iterable[Any]]) -> Iterator[RunManifest]:
        entries = list(element[1])
        (plan,) = [entry for entry in entries if isinstance(entry, CommitPlan)]
        manifest = commit(plan, self._options, self._description)
        if manifest.failure is not None and self._options.fail_job:
            raise failure_of(manifest)
        yield manifest


def commit(plan: CommitPlan, options: WriteOptions, description: RunDescription) -> RunManifest:
    """Writes the manifest of a finished or failed run; a retry returns the one already written.

    Raises:
        JobError: another job has finished a run with this id.
    """
    root = filesystem.join(options.output, options.run_id)
    earlier = check_claim(options)
    if earlier is not None and earlier.attempt_id == options.attempt_id:
        return _end(options, earlier, is_retry=True)
    _check_files(root, plan)
    manifest = build_manifest(plan, options, description)
    name = MANIFEST_NAME if manifest.failure is None else FAILED_NAME
    if earlier is not None:
        filesystem.delete(filesystem.join(root, FAILED_NAME))
    if not filesystem.create_if_absent(filesystem.join(root, name), manifest.to_bytes()):
        return commit(plan, options, description)  # another worker was faster: the first one wins
    return _end(options, manifest, is_retry=False)


def _end(options: WriteOptions, manifest: RunManifest, *, is_retry: bool) -> RunManifest:
    """Updates ``latest.json`` and writes the report; the run is finished even if this fails."""
    finish(options, manifest)
    root = filesystem.join(options.output, options.run_id)
    if options.report and not (is_retry and filesystem.exists(filesystem.join(root, REPORT_NAME))):
        try_report(root, manifest)
    return manifest


def failure_of(manifest: RunManifest) -> JobError:
    """Returns the error for a failed run."""
    kinds = {"too_many_dead": TooManyDeadError, "no_documents": TooManyDeadError, "counts": CountsError}
    kind = kinds.get(manifest.failure_kind or "", CountsError)
    return kind(manifest.failure or "")


def _check_files(root: str, plan: CommitPlan) -> None:
    """Checks the size of every file and removes files left by an earlier attempt."""
    wanted = {filesystem.join(root, *name.split("/")): receipt for receipt, name in plan.moves}
    found = [filesystem.list_files(filesystem.join(root, kind)) for kind in _FOLDERS]
    sizes = {path: size for files in found for path, size in files.items()}
    for path, receipt in wanted.items():
        size = sizes.get(path)
        if size != receipt.num_bytes:
            raise JobError(
                f"{path} should have {receipt.num_bytes} bytes but has {size}: something else is changing "
                "this folder. No manifest was written."
            )
    for path in sorted(sizes.keys() - wanted.keys()):
        filesystem.delete(path)


def build_manifest(plan: CommitPlan, options: WriteOptions, description: RunDescription) -> RunManifest:
    """Returns the manifest of a run whose files are in place; ``failure`` is set if it failed."""
    files = tuple(_run_file(receipt, name) for receipt, name in plan.moves)
    if description.copied_from is not None:
        started_at, first = description.started_at, description.copied_from
        return copied_manifest(first, options.run_id, options.attempt_id, started_at, files)
    receipts = [receipt for receipt, _ in plan.moves]
    num_dead_files = len({file.source for file in plan.dead_files})
    counts = sum_receipts(receipts, plan.num_read, num_dead_files, plan.num_unchanged)
    kind, failure = check_counts(counts, receipts, description.limits, description.precision)
    listed = plan.dead_files[:_DEAD_FILES_LISTED]
    return RunManifest(
        run_id=options.run_id,
        attempt_id=options.attempt_id,
        failure=failure,
        failure_kind=kind,
        started_at=description.started_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=description.bundle,
        settings_digest=description.settings_digest,
        settings=description.settings,
        precision=description.precision,
        config=description.config,
        previous=description.previous,
        emit=description.emit,
        counts=counts,
        workers=worker_costs(receipts),
        timeline=sum_timeline(interval for receipt in receipts for interval in receipt.work),
        files=files,
        dead_files=tuple(DeadFileEntry(**dataclasses.asdict(file)) for file in listed),
        versions=description.versions,
    )


def _run_file(receipt: Receipt, name: str) -> RunFile:
    facts = {key: getattr(receipt, key) for key in ("kind", "num_rows", "num_bytes", "sha256")}
    return RunFile.model_validate({"path": name} | facts)

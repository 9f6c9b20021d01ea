"""Commits a run: numbers, moves and checks its shards, then writes the manifest.

Every step can be repeated, because a runner may retry it; so can the whole job, because a runner may run all
of it again, even after success, with documents in other files. Receipts pass a GroupByKey together with a
sentinel, so the commit happens once with all of them, even if there are none. The design and its invariants:
docs/decisions/commit.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.worker_log import name_run_in_logs
from beam_jobs.errors import CountsError, JobError, TooManyDeadError
from beam_jobs.pipeline.write.counts import check_counts, recount_classes, sum_receipts, worker_costs
from beam_jobs.pipeline.write.description import RunDescription, copied_manifest
from beam_jobs.pipeline.write.moves import (
    CHANGED_MEANWHILE,
    SENTINEL,
    CommitPlan,
    MoveShards,
    plan_commit,
    reserve_names,
)
from beam_jobs.pipeline.write.timeline import sum_timeline
from beam_jobs.report.page import try_report
from beam_jobs.store import filesystem
from beam_jobs.store.digest import check_digest
from beam_jobs.store.latest import next_sequence
from beam_jobs.store.manifest import (
    CHANGES,
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    FAILED_NAME,
    MANIFEST_NAME,
    REPORT_NAME,
    WINDOW_CHANGES,
    DeadFileEntry,
    RunFile,
    RunManifest,
)
from beam_jobs.store.receipt import Receipt
from beam_jobs.store.run_folder import check_claim, claim, finish, has_ended

# Keeps the manifest readable; further dead files are only counted.
_DEAD_FILES_LISTED = 1000
_FOLDERS = (EMBEDDINGS, CLASSES, DEAD_LETTERS, CHANGES, WINDOW_CHANGES)


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
        sentinel = entries.pipeline | "Sentinel" >> beam.Create([SENTINEL])  # PCollection[str]
        if self._options.claim_in_job:
            sentinel |= "Claim" >> beam.Map(_claimed, self._options)  # PCollection[str]
        plan = (
            (entries, sentinel)
            | "WithSentinel" >> beam.Flatten()  # PCollection[Receipt | int | DeadFile | str]
            | "ToOnePlan" >> beam.Map(_to_one_key)  # PCollection[tuple[int, …]]
            | "GatherReceipts" >> beam.GroupByKey()  # PCollection[tuple[int, Iterable[…]]]
            | "Plan" >> beam.MapTuple(plan_commit)  # PCollection[CommitPlan]
            | "Reserve" >> beam.Map(reserve_names, self._options)  # PCollection[CommitPlan]
        )
        moved = plan | "Moves" >> MoveShards(self._options)  # PCollection[str]
        return (
            (plan, moved)
            | "WithPlan" >> beam.Flatten()  # PCollection[CommitPlan | str]
            | "ToOneCommit" >> beam.Map(_to_one_key)  # PCollection[tuple[int, CommitPlan | str]]
            | "GatherMoves" >> beam.GroupByKey()  # PCollection[tuple[int, Iterable[CommitPlan | str]]]
            | "WriteManifest" >> beam.ParDo(_CommitDoFn(self._options, self._description))
        )  # PCollection[RunManifest]


def _claimed(sentinel: str, options: WriteOptions) -> str:
    """Claims the run's folder when the job starts, unless the run has ended; the receipts wait for this."""
    if not has_ended(options):
        claim(options)
    return sentinel


def _to_one_key(element: Any) -> tuple[int, Any]:
    return 0, element


class _CommitDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Checks what was moved and writes the manifest."""

    def __init__(self, options: WriteOptions, description: RunDescription) -> None:
        self._options = options
        self._description = description

    def setup(self) -> None:
        name_run_in_logs(self._options)

    def process(self, element: tuple[int, Iterable[Any]]) -> Iterator[RunManifest]:
        entries = list(element[1])
        (plan,) = [entry for entry in entries if isinstance(entry, CommitPlan)]
        manifest = commit(plan, self._options, self._description)
        if manifest.failure is not None and self._options.fail_job:
            raise failure_of(manifest)
        yield manifest


def commit(plan: CommitPlan, options: WriteOptions, description: RunDescription) -> RunManifest:
    """Writes the manifest of a finished or failed run; a retry returns the one already written.

    A retry may come from the same receipts or from others, if the engine ran the whole job again.

    Raises:
        JobError: another job has finished a run with this id, or a file is missing or was changed.
    """
    root = filesystem.join(options.output, options.run_id)
    earlier = check_claim(options)
    if earlier is not None and earlier.attempt_id == options.attempt_id:
        return _end(options, earlier, is_retry=True)
    _check_sizes(root, {name: receipt.num_bytes for receipt, name in plan.moves})
    number = next_sequence(options.output)
    manifest = build_manifest(plan, options, description).model_copy(update={"sequence": number})
    name = MANIFEST_NAME if manifest.failure is None else FAILED_NAME
    if earlier is not None:
        filesystem.delete(filesystem.join(root, FAILED_NAME))
    if not filesystem.create_if_absent(filesystem.join(root, name), manifest.to_bytes()):
        return commit(plan, options, description)  # another worker was faster: the first one wins
    return _end(options, manifest, is_retry=False)


def _end(options: WriteOptions, manifest: RunManifest, *, is_retry: bool) -> RunManifest:
    """Removes strays, updates ``latest.json`` and writes the report; all of it can be repeated.

    Raises:
        JobError: a file of the run is missing or was changed; the manifest is withdrawn.
    """
    root = filesystem.join(options.output, options.run_id)
    try:
        _check_sizes(root, {file.path: file.num_bytes for file in manifest.files})
        for file in manifest.files if is_retry else ():  # the first time they have just been read
            check_digest(filesystem.join(root, *file.path.split("/")), file.sha256, CHANGED_MEANWHILE)
    except JobError:
        # Only something other than this job can have done that. A run is absent rather than wrong.
        filesystem.delete(filesystem.join(root, MANIFEST_NAME if manifest.failure is None else FAILED_NAME))
        raise
    finish(options, manifest)
    if manifest.failure is None:
        _remove_strays(root, manifest)
    elif filesystem.exists(filesystem.join(root, MANIFEST_NAME)):  # another attempt has succeeded meanwhile
        filesystem.delete(filesystem.join(root, FAILED_NAME))
    if options.report and not (is_retry and filesystem.exists(filesystem.join(root, REPORT_NAME))):
        try_report(root, manifest)
    return manifest


def _remove_strays(root: str, manifest: RunManifest) -> None:
    """Removes what other attempts left; the manifest is there, so none of them can finish with these files.

    Staged files are gone by now, so no attempt that wakes up late has anything left to move.
    """
    listed = {filesystem.join(root, *file.path.split("/")) for file in manifest.files}
    for kind in _FOLDERS:
        for path in sorted(filesystem.list_files(filesystem.join(root, kind)).keys() - listed):
            filesystem.delete(path)
    filesystem.delete(filesystem.join(root, FAILED_NAME))


def failure_of(manifest: RunManifest) -> JobError:
    """Returns the error for a failed run."""
    kinds = {"too_many_dead": TooManyDeadError, "no_documents": TooManyDeadError, "counts": CountsError}
    kind = kinds.get(manifest.failure_kind or "", CountsError)
    return kind(manifest.failure or "")


def _check_sizes(root: str, wanted: Mapping[str, int]) -> None:
    """Checks the sizes of files, by path in the run, with one listing per folder.

    Raises:
        JobError: a file is missing or has another size.
    """
    found = [filesystem.list_files(filesystem.join(root, kind)) for kind in _FOLDERS]
    sizes = {path: size for files in found for path, size in files.items()}
    for name, num_bytes in wanted.items():
        path = filesystem.join(root, *name.split("/"))
        if sizes.get(path) != num_bytes:
            raise JobError(
                f"{path} should have {num_bytes} bytes but has {sizes.get(path)}: something else is changing "
                "this folder. There is no manifest."
            )


def build_manifest(plan: CommitPlan, options: WriteOptions, description: RunDescription) -> RunManifest:
    """Returns the manifest of a run whose files are in place; ``failure`` is set if it failed."""
    files = tuple(_run_file(receipt, name) for receipt, name in plan.moves)
    receipts = [receipt for receipt, _ in plan.moves]
    if description.copied_from is not None:
        started_at, first = description.started_at, description.copied_from
        num_documents = sum(receipt.counts.get("num_documents", 0) for receipt in receipts)
        first = first.model_copy(update={"counts": recount_classes(first.counts, receipts)})
        return copied_manifest(first, options.run_id, options.attempt_id, started_at, files, num_documents)
    num_dead_files = len({file.source for file in plan.dead_files})
    counts = sum_receipts(receipts, plan.num_read, num_dead_files, plan.num_unchanged, description.gold)
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

"""Describes a run before it starts: its options and the contents of its manifest; also those of a copy."""

from __future__ import annotations

import secrets
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store.filesystem import absolute_path
from beam_jobs.store.manifest import (
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    PreviousEntry,
    RunFile,
    RunManifest,
)

_VERSIONS = ("apache-beam", "pyarrow", "numpy", "tensorflow", "tokenizers")


def new_run(output: str, run_id: str | None = None, **options: Any) -> WriteOptions:
    """Creates the options of a new run below ``output``.

    Args:
        output: root of the runs, local or remote.
        run_id: name of the run's folder; None generates one that sorts by time.
        options: further fields of ``WriteOptions``.

    Raises:
        UsageError: an option is invalid.
    """
    now = datetime.now(UTC)
    return WriteOptions(
        output=absolute_path(output),
        run_id=run_id or f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        attempt_id=uuid.uuid4().hex,
        **options,
    )


def describe_run(
    settings: EncodeSettings, limits: FailureLimits | None = None, config: Mapping[str, Any] | None = None
) -> RunDescription:
    """Describes a run that starts now.

    Args:
        settings: settings of the encoding step.
        limits: how much may fail; None allows nothing.
        config: JSON data, stored in the manifest unchanged.
    """
    bundle: dict[str, Any] = {
        "name": settings.bundle_name,
        "digest": settings.bundle_digest,
        "place": settings.bundle,
    }
    gold = None
    if settings.classes is not None:
        gold = settings.classes.gold
        bundle["labels"] = list(settings.classes.names)
    return RunDescription(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=bundle,
        settings_digest=settings.digest,
        settings=settings.relevant,
        precision=str(settings.request.precision),
        config=dict(config or {}),
        limits=limits or FailureLimits(),
        versions={name: version(name) for name in _VERSIONS},
        kind=EMBEDDINGS if settings.classes is None else CLASSES,
        gold=None if gold is None else (gold, str((config or {}).get("gold_column") or gold)),
    )


@dataclass(frozen=True)
class RunDescription:
    """Contents of the manifest that do not come from receipts.

    ``kind`` is the folder of the rows; ``settings`` are the data of ``settings_digest``. ``copied_from`` is
    the manifest of the original if this run is a copy of another one with new files. ``gold``: the column of
    true labels, in the rows and in the input.
    """

    started_at: str
    bundle: dict[str, Any]
    settings_digest: str
    precision: str
    config: dict[str, Any]
    limits: FailureLimits
    versions: dict[str, str]
    kind: str = EMBEDDINGS
    settings: dict[str, Any] = field(default_factory=dict)
    previous: PreviousEntry | None = None
    emit: Literal["all", "changes"] = "all"
    copied_from: RunManifest | None = None
    gold: tuple[str, str] | None = None


def without_files(manifest: RunManifest) -> RunManifest:
    """Merges the files of a manifest into one entry per kind, so that it fits into a job request."""
    totals: Counter[str] = Counter()
    for file in manifest.files:
        totals[file.kind] += file.num_rows
    files = [
        RunFile.model_validate({"path": kind, "kind": kind, "num_rows": rows, "num_bytes": 0, "sha256": ""})
        for kind, rows in totals.items()
    ]
    return manifest.model_copy(update={"files": tuple(files)})


def whole_manifest(changes: RunManifest) -> RunManifest:
    """Returns what a run of changes would have said if it had written every row.

    The documents that it left out are reused ones. It lists no rows: their number is not known, only that of
    the documents.
    """
    counts = changes.counts
    files = tuple(file for file in changes.files if file.kind == DEAD_LETTERS)
    whole: dict[str, Any] = {"num_reused": counts.num_reused + counts.num_unchanged, "num_unchanged": 0}
    whole |= {"changes": {}, "window_changes": {}}
    update = {"emit": "all", "counts": counts.model_copy(update=whole), "files": files}
    return changes.model_copy(update=update)


def copied_manifest(
    first: RunManifest,
    run_id: str,
    attempt_id: str,
    started_at: str,
    files: Sequence[RunFile],
    num_documents: int,
) -> RunManifest:
    """Returns the manifest of a copy; ``failure`` is set if the number of rows or documents differs.

    Args:
        first: manifest of the original.
        run_id, attempt_id: ids of the copy.
        started_at: when copying started.
        files: files of the copy.
        num_documents: documents with rows that were copied.
    """
    rows: Counter[str] = Counter()
    for sign, some in ((1, files), (-1, first.files)):
        for file in some:
            rows[file.kind] += sign * file.num_rows
    known = {file.kind for file in first.files}
    wrong = {f"rows of {kind}": number for kind, number in sorted(rows.items()) if number and kind in known}
    wrong["documents"] = num_documents - first.counts.num_written - first.counts.num_reused
    failure = None
    if any(wrong.values()):
        listed = ", ".join(f"{number:+,} {what}" for what, number in wrong.items() if number)
        failure = (
            f"The copy of run {first.run_id} differs from it: {listed}. This is a bug; please report it."
        )
    return first.model_copy(
        update={
            "run_id": run_id,
            "attempt_id": attempt_id,
            "failure": failure,
            "failure_kind": None if failure is None else "counts",
            "started_at": started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": first.config | {"compacted_from": first.run_id},
            "files": tuple(files),
        }
    )

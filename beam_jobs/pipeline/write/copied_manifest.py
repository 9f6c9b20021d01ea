"""The manifest of a run whose files were written anew: everything but the files is that of the first run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from beam_jobs.store.manifest import RunFile, RunManifest


def without_files(manifest: RunManifest) -> RunManifest:
    """Returns a manifest with one entry per kind, with the rows of all: small enough for a job's request."""
    totals: Counter[str] = Counter()
    for file in manifest.files:
        totals[file.kind] += file.num_rows
    files = [
        RunFile.model_validate({"path": kind, "kind": kind, "num_rows": rows, "num_bytes": 0, "sha256": ""})
        for kind, rows in totals.items()
    ]
    return manifest.model_copy(update={"files": tuple(files)})


def copied_manifest(
    first: RunManifest, run_id: str, attempt_id: str, started_at: str, files: Sequence[RunFile]
) -> RunManifest:
    """Returns the manifest of a copy; a failed one where rows are missing or too many.

    Args:
        first: of the run that was copied.
        run_id, attempt_id: of the copy.
        started_at: when copying began.
        files: of the copy.
    """
    rows: Counter[str] = Counter()
    rows.update({file.kind: 0 for file in first.files})
    for sign, some in ((1, files), (-1, first.files)):
        for file in some:
            rows[file.kind] += sign * file.num_rows
    wrong = {kind: number for kind, number in sorted(rows.items()) if number}
    failure = None
    if wrong:
        told = ", ".join(f"{number:+,} rows of {kind}" for kind, number in wrong.items())
        failure = (
            f"The copy of run {first.run_id} is not equal to it: {told}. This is a bug; please report it."
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

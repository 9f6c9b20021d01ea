"""Finds a finished run by its folder, or the latest one below a root."""

from __future__ import annotations

import json
from dataclasses import dataclass

from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import (
    DEAD_LETTERS,
    FAILED_NAME,
    LATEST_NAME,
    MANIFEST_NAME,
    STAGING_DIR,
    RunFile,
    RunManifest,
)


@dataclass(frozen=True)
class FinishedRun:
    """A run with its manifest; ``folder`` holds its files, local or gs://."""

    folder: str
    manifest: RunManifest

    @property
    def row_files(self) -> tuple[RunFile, ...]:
        """The files with rows, in the order of the manifest."""
        kinds = ("embeddings", "classes")
        return tuple(file for file in self.manifest.files if file.kind in kinds)

    @property
    def dead_letter_files(self) -> tuple[RunFile, ...]:
        """The files with dead letters."""
        return tuple(file for file in self.manifest.files if file.kind == DEAD_LETTERS)

    def path_of(self, file: RunFile) -> str:
        """Returns the path of a file."""
        return filesystem.join(self.folder, file.path)


def find_run(path: str) -> FinishedRun:
    """Finds a finished run.

    Args:
        path: a run's folder, or the root of runs, which selects the latest finished one.

    Raises:
        UsageError: there is no run, it has not finished, or it failed.
        JobError: the manifest is damaged or has an unknown version.
    """
    folder = path if path == "/" else path.rstrip("/")
    data = filesystem.read_bytes(filesystem.join(folder, MANIFEST_NAME))
    if data is not None:
        return FinishedRun(folder, RunManifest.from_bytes(data, filesystem.join(folder, MANIFEST_NAME)))
    _refuse_unfinished(folder)
    latest = filesystem.read_bytes(filesystem.join(folder, LATEST_NAME))
    if latest is None:
        raise UsageError(
            f"{path} is neither a run (no {MANIFEST_NAME}) nor a root of finished runs (no {LATEST_NAME}). "
            "Give the folder that a job prints when it ends, or its --output."
        )
    named = filesystem.join(folder, str(json.loads(latest)["run_id"]))
    data = filesystem.read_bytes(filesystem.join(named, MANIFEST_NAME))
    if data is None:
        raise UsageError(
            f"{filesystem.join(folder, LATEST_NAME)} names {named}, which has no {MANIFEST_NAME}: the run "
            "was removed or moved. Give the folder of a run."
        )
    return FinishedRun(named, RunManifest.from_bytes(data, filesystem.join(named, MANIFEST_NAME)))


def find_ended_run(path: str) -> FinishedRun:
    """Finds a run that has finished or failed, for commands that describe runs and do not read results.

    Raises:
        UsageError, JobError: see ``find_run``.
    """
    where = filesystem.join(path if path == "/" else path.rstrip("/"), FAILED_NAME)
    data = filesystem.read_bytes(where)
    if data is None:
        return find_run(path)
    return FinishedRun(where.removesuffix(f"/{FAILED_NAME}"), RunManifest.from_bytes(data, where))


def _refuse_unfinished(folder: str) -> None:
    path = filesystem.join(folder, FAILED_NAME)
    data = filesystem.read_bytes(path)
    if data is not None:
        raise UsageError(
            f"{folder} failed, so it has no result: {RunManifest.from_bytes(data, path).failure} Its files "
            "are kept and can be opened one by one."
        )
    # A job writes this file first.
    if filesystem.read_bytes(filesystem.join(folder, STAGING_DIR, "attempt")) is not None:
        raise UsageError(
            f"{folder} is not finished: it has no {MANIFEST_NAME}, which a job writes last. It is still "
            "running or was stopped; start it again with the same --run_id."
        )

"""Finds a finished run by its folder, or the latest one below a root."""

from __future__ import annotations

from dataclasses import dataclass, replace

from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.latest import read_latest
from beam_jobs.store.manifest import (
    CHANGES,
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
    """A run with its manifest; ``folder`` holds its files, local or remote.

    ``before`` are the runs that complete one that holds only changes, the newest first and the last one
    complete; empty if the run is complete, or if its own rows alone are wanted.
    """

    folder: str
    manifest: RunManifest
    before: tuple[FinishedRun, ...] = ()

    @property
    def chain(self) -> tuple[FinishedRun, ...]:
        """The runs that make up the collection, each by itself, the oldest first."""
        return (*reversed(self.before), replace(self, before=()))

    @property
    def row_files(self) -> tuple[RunFile, ...]:
        """The files with rows, in the order of the manifest."""
        kinds = ("embeddings", "classes")
        return tuple(file for file in self.manifest.files if file.kind in kinds)

    @property
    def dead_letter_files(self) -> tuple[RunFile, ...]:
        """The files with dead letters."""
        return tuple(file for file in self.manifest.files if file.kind == DEAD_LETTERS)

    @property
    def change_files(self) -> tuple[RunFile, ...]:
        """The files with changes since the previous run."""
        return tuple(file for file in self.manifest.files if file.kind == CHANGES)

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
    latest = read_latest(folder)
    if latest is None:
        raise UsageError(
            f"{path} is neither a run (no {MANIFEST_NAME}) nor a root of finished runs (no {LATEST_NAME}). "
            "Give the folder that a job prints when it ends, or its --output."
        )
    named = filesystem.join(folder, latest.run_id)
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
    folder = path if path == "/" else path.rstrip("/")
    where = filesystem.join(folder, FAILED_NAME)
    data = filesystem.read_bytes(where)
    if data is None or filesystem.exists(filesystem.join(folder, MANIFEST_NAME)):
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

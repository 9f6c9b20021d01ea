"""From a path to a finished run: a run's folder, or a root, which means its latest."""

from __future__ import annotations

import json
from dataclasses import dataclass

from beam_jobs.errors import UsageError
from beam_jobs.store import arrow_files
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
    """A run that has its manifest. ``folder`` is where its files are, local or gs://."""

    folder: str
    manifest: RunManifest

    @property
    def row_files(self) -> tuple[RunFile, ...]:
        """The files of its rows, in the manifest's order."""
        kinds = ("embeddings", "classes")
        return tuple(file for file in self.manifest.files if file.kind in kinds)

    @property
    def dead_letter_files(self) -> tuple[RunFile, ...]:
        """The files of its dead letters."""
        return tuple(file for file in self.manifest.files if file.kind == DEAD_LETTERS)

    def path_of(self, file: RunFile) -> str:
        """Returns where a file is."""
        return arrow_files.join(self.folder, file.path)


def find_run(path: str) -> FinishedRun:
    """Finds a finished run.

    Args:
        path: a run's folder, or the root of runs, which means the one that finished last.

    Raises:
        UsageError: there is no run, or it has not finished, or it failed; says why.
        JobError: what is there is no manifest of this version.
    """
    folder = path if path == "/" else path.rstrip("/")
    data = arrow_files.read_bytes(arrow_files.join(folder, MANIFEST_NAME))
    if data is not None:
        return FinishedRun(folder, RunManifest.from_bytes(data, arrow_files.join(folder, MANIFEST_NAME)))
    _refuse_unfinished(folder)
    latest = arrow_files.read_bytes(arrow_files.join(folder, LATEST_NAME))
    if latest is None:
        raise UsageError(
            f"{path} is neither a run (no {MANIFEST_NAME}) nor the root of runs that finished (no "
            f"{LATEST_NAME}). Name the folder that a job names at its end, or its --output."
        )
    named = arrow_files.join(folder, str(json.loads(latest)["run_id"]))
    data = arrow_files.read_bytes(arrow_files.join(named, MANIFEST_NAME))
    if data is None:
        raise UsageError(
            f"{arrow_files.join(folder, LATEST_NAME)} names {named}, which has no {MANIFEST_NAME}: the run "
            "was removed or is elsewhere. Name a run's own folder."
        )
    return FinishedRun(named, RunManifest.from_bytes(data, arrow_files.join(named, MANIFEST_NAME)))


def find_ended_run(path: str) -> FinishedRun:
    """The same, but takes a run that failed, too: for what tells about runs and reads no result.

    Raises:
        UsageError, JobError: see ``find_run``.
    """
    where = arrow_files.join(path if path == "/" else path.rstrip("/"), FAILED_NAME)
    data = arrow_files.read_bytes(where)
    if data is None:
        return find_run(path)
    return FinishedRun(where.removesuffix(f"/{FAILED_NAME}"), RunManifest.from_bytes(data, where))


def _refuse_unfinished(folder: str) -> None:
    path = arrow_files.join(folder, FAILED_NAME)
    data = arrow_files.read_bytes(path)
    if data is not None:
        raise UsageError(
            f"{folder} failed and is no result: {RunManifest.from_bytes(data, path).failure} Its files are "
            "kept and can be opened one by one."
        )
    # The first thing that a job writes.
    if arrow_files.read_bytes(arrow_files.join(folder, STAGING_DIR, "attempt")) is not None:
        raise UsageError(
            f"{folder} is not finished: it has no {MANIFEST_NAME}, which a job writes last. It is still "
            "going on, or was stopped; start it again with the same --run_id."
        )

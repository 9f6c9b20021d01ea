"""Digests that files of earlier runs must have before their rows are trusted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import JobError
from beam_jobs.pipeline.incremental.previous_run import PreviousRun
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import FAILED_NAME, STAGING_DIR, RunManifest
from beam_jobs.store.receipt import CLOSED_PREFIX

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownDigests:
    """Digests of the files of finished runs, by path, and of the shards that earlier attempts closed."""

    by_path: Mapping[str, str] = field(default_factory=dict)
    of_attempts: frozenset[str] = frozenset()

    def check(self, path: str) -> bool:
        """Reads a file and returns whether its rows may be copied; a damaged shard of an attempt is left out.

        Raises:
            JobError: a file of a finished run differs from its manifest.
        """
        try:
            found = filesystem.sha256_of(path)
        except FileNotFoundError:
            found = "no file"
        expected = self.by_path.get(path)
        if expected is None and found not in self.of_attempts:
            _logger.warning("%s was not closed or has changed since, so its rows are computed again.", path)
            return False
        if expected is not None and found != expected:
            raise JobError(
                f"--previous: {path} should have the sha256 {expected} but has {found}; it was changed after "
                "the run was written, so none of its rows are copied. Choose another run, or "
                "leave --previous out."
            )
        return True


def digests_of_runs(runs: tuple[PreviousRun, ...]) -> dict[str, str]:
    """Returns the sha256 of all files of runs, by path."""
    return {
        filesystem.join(run.root, *file.path.split("/")): file.sha256
        for run in runs
        for file in run.manifest.files
    }


def digests_of_attempts(write: WriteOptions) -> frozenset[str]:
    """Returns the sha256 of the shards that earlier attempts at a run closed.

    Workers note each one in the staging folder; a failed attempt also lists them in its manifest.
    """
    root = filesystem.join(write.output, write.run_id)
    names = map(filesystem.base_name, filesystem.list_files(filesystem.join(root, STAGING_DIR)))
    found = {name.removeprefix(CLOSED_PREFIX) for name in names if name.startswith(CLOSED_PREFIX)}
    path = filesystem.join(root, FAILED_NAME)
    data = filesystem.read_bytes(path)
    listed = () if data is None else RunManifest.from_bytes(data, path).files
    return frozenset(found | {file.sha256 for file in listed})

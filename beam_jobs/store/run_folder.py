"""The folder of a run: which job owns it, whether it is finished, and the pointer to the latest run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import FinishedError, JobError, UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.latest import point_to
from beam_jobs.store.manifest import (
    FAILED_NAME,
    MANIFEST_NAME,
    NEEDS_PREFIX,
    STAGING_DIR,
    RunManifest,
)
from model_bundle.errors import ModelBundleError

# Holds the id of the job that owns the run's folder: the one started last.
_CLAIM = "attempt"
_logger = logging.getLogger(__name__)


def find_manifest(root: str) -> RunManifest | None:
    """Reads the manifest of a finished or failed run; None if there is none yet."""
    for name in (MANIFEST_NAME, FAILED_NAME):
        path = filesystem.join(root, name)
        data = filesystem.read_bytes(path)
        if data is not None:
            return RunManifest.from_bytes(data, path)
    return None


def find_unfinished(output: str) -> list[str]:
    """Returns the sorted ids of unfinished runs below ``output``."""
    started = filesystem.list_below(output, STAGING_DIR, _CLAIM)
    return [
        run_id for run_id in started if not filesystem.exists(filesystem.join(output, run_id, MANIFEST_NAME))
    ]


def claim(options: WriteOptions) -> None:
    """Claims the run's folder for this job; an earlier owner stops at its commit."""
    path = filesystem.join(options.output, options.run_id, STAGING_DIR, _CLAIM)
    filesystem.replace(path, options.attempt_id.encode())


def announce(options: WriteOptions) -> None:
    """Checks that the run's folder is writable, without affecting a job that may own it."""
    name = f"launched-{options.attempt_id}"
    filesystem.replace(filesystem.join(options.output, options.run_id, STAGING_DIR, name), b"")


def check_claim(options: WriteOptions) -> RunManifest | None:
    """Returns the existing manifest: of this job, or of an earlier job that failed; None if there is none.

    Raises:
        JobError: another job finished this run, or claimed its folder later.
    """
    root = filesystem.join(options.output, options.run_id)
    found = find_manifest(root)
    if found is not None and found.attempt_id == options.attempt_id:
        return found
    if found is not None and found.failure is None:
        raise _finished_by_another(root)
    owner = filesystem.read_bytes(filesystem.join(root, STAGING_DIR, _CLAIM))
    if owner is not None and owner != options.attempt_id.encode():
        raise JobError(
            f"Another job was started with --run_id {options.run_id} and claimed {root}; this one wrote "
            "nothing there. Give each job its own id, or leave --run_id out."
        )
    return found


def record_needs(options: WriteOptions, folders: Sequence[str]) -> None:
    """Notes that an unfinished run reads earlier runs, so that ``runs ROOT delete`` keeps them.

    Args:
        options: the unfinished run.
        folders: those of the earlier runs.

    Raises:
        UsageError: one of them was deleted before it was noted.
    """
    ids = [filesystem.base_name(folder) for folder in folders]
    name = f"{NEEDS_PREFIX}{options.attempt_id}"
    path = filesystem.join(options.output, options.run_id, STAGING_DIR, name)
    filesystem.replace(path, json.dumps(ids).encode())
    for folder in folders:
        if not filesystem.exists(filesystem.join(folder, MANIFEST_NAME)):
            raise UsageError(f"--previous: {folder} was deleted just now. Choose another run.")


def has_ended(options: WriteOptions) -> bool:
    """Whether this job has written its manifest, so that repeated work can stop early.

    Raises:
        JobError: another job finished this run.
    """
    root = filesystem.join(options.output, options.run_id)
    found = find_manifest(root)
    if found is None or found.attempt_id == options.attempt_id:
        return found is not None
    if found.failure is None:
        raise _finished_by_another(root)
    return False


def _finished_by_another(root: str) -> JobError:
    return JobError(
        f"{root} holds a finished run of another job; nothing was changed. Choose another --run_id."
    )


def finish(options: WriteOptions, manifest: RunManifest) -> RunManifest:
    """Points ``latest.json`` at a successful run, never back in time, and removes its staging folder."""
    if manifest.failure is not None:
        return manifest
    root = filesystem.join(options.output, options.run_id)
    point_to(options.output, manifest)
    if options.fail_job:  # on remote workers; in-process jobs print a summary
        _logger.info("Run finished: %s", root)  # launch/terraform/alerts.tf counts this line
    try:
        filesystem.delete_folder(filesystem.join(root, STAGING_DIR))
    except OSError as error:
        _logger.warning("%s/%s could not be removed and can be deleted by hand: %s", root, STAGING_DIR, error)
    return manifest


def check_output(write: WriteOptions) -> None:
    """Checks that the run's folder is writable and holds no finished run, and claims it for this job.

    Raises:
        FinishedError: it holds a finished run.
        UsageError: it is not writable, or its storage cannot create only if absent.
    """
    root = filesystem.join(write.output, write.run_id)
    try:
        earlier = find_manifest(root)
        if earlier is None or earlier.failure is not None:
            filesystem.check_conditions(filesystem.join(root, STAGING_DIR))
            if write.claim_in_job:
                announce(write)
                return
            claim(write)
            filesystem.delete(filesystem.join(root, FAILED_NAME))
            return
    except (JobError, ModelBundleError):
        raise
    except Exception as error:  # every storage has errors of its own
        raise UsageError(
            f"--output {write.output} cannot be written: {error}. Choose a writable folder."
        ) from error
    raise FinishedError(
        f"--run_id {write.run_id}: {root} holds a finished run, which is not changed. Choose another id, or "
        "leave --run_id out to generate one."
    )


def run_to_resume(output: str, run_id: str | None) -> str:
    """Returns the id of the run that ``--resume`` selects.

    Args:
        output: root of the runs.
        run_id: the value of ``--run_id``.

    Raises:
        UsageError: no run, or more than one, is unfinished.
    """
    unfinished = find_unfinished(output)
    if run_id is not None:
        if run_id not in unfinished:
            raise UsageError(
                f"--resume: there is no unfinished run {run_id} below {output}. Leave --resume out to start "
                "one."
            )
        return run_id
    if len(unfinished) == 1:
        return unfinished[0]
    if not unfinished:
        raise UsageError(
            f"--resume: there is no unfinished run below {output}. Leave --resume out to start one."
        )
    raise UsageError(
        f"--resume: {len(unfinished)} runs below {output} are unfinished: {', '.join(unfinished)}. Select "
        "one with --run_id; one of them may still be running."
    )

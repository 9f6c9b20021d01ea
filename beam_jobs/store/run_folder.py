"""The folder of one run: which job works in it, whether it is finished, and the pointer to the latest."""

from __future__ import annotations

import json
import logging

from apache_beam.io.filesystem import BeamIOError

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import FinishedError, JobError, UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import FAILED_NAME, LATEST_NAME, MANIFEST_NAME, STAGING_DIR, RunManifest

# Says which job works in a run's folder: the one that was started last.
_CLAIM = "attempt"
_logger = logging.getLogger(__name__)


def find_manifest(root: str) -> RunManifest | None:
    """Reads a run's manifest, or that of its failure; None for a run that is not finished."""
    for name in (MANIFEST_NAME, FAILED_NAME):
        path = filesystem.join(root, name)
        data = filesystem.read_bytes(path)
        if data is not None:
            return RunManifest.from_bytes(data, path)
    return None


def find_unfinished(output: str) -> list[str]:
    """Lists the ids of runs that were started below ``output`` and are not finished, sorted."""
    started = filesystem.list_below(output, STAGING_DIR, _CLAIM)
    return [
        run_id for run_id in started if not filesystem.exists(filesystem.join(output, run_id, MANIFEST_NAME))
    ]


def claim(options: WriteOptions) -> None:
    """Says that from now on this job works in the run's folder; another that does will stop at its commit."""
    path = filesystem.join(options.output, options.run_id, STAGING_DIR, _CLAIM)
    filesystem.replace(path, options.attempt_id.encode())


def announce(options: WriteOptions) -> None:
    """Proves that the run's folder can be written, and changes nothing for a job that may work in it."""
    name = f"launched-{options.attempt_id}"
    filesystem.replace(filesystem.join(options.output, options.run_id, STAGING_DIR, name), b"")


def check_claim(options: WriteOptions) -> RunManifest | None:
    """Returns the manifest that is there: ours, or that of an earlier job's failure.

    Raises:
        JobError: another job finished this run, or was started on it later.
    """
    root = filesystem.join(options.output, options.run_id)
    found = find_manifest(root)
    if found is not None and found.attempt_id == options.attempt_id:
        return found
    if found is not None and found.failure is None:
        raise JobError(
            f"{root} holds a finished run of another job; nothing was changed. Choose another --run_id."
        )
    owner = filesystem.read_bytes(filesystem.join(root, STAGING_DIR, _CLAIM))
    if owner is not None and owner != options.attempt_id.encode():
        raise JobError(
            f"Another job was started with --run_id {options.run_id} and took over {root}; this one wrote "
            "nothing there. Give each job an id of its own, or leave --run_id out."
        )
    return found


def finish(options: WriteOptions, manifest: RunManifest) -> RunManifest:
    """Points to a good run and removes what was staged for it. A repetition never points back in time."""
    if manifest.failure is not None:
        return manifest
    root, path = filesystem.join(options.output, options.run_id), filesystem.join(options.output, LATEST_NAME)
    latest = {"run_id": manifest.run_id, "finished_at": manifest.finished_at}
    newest = json.loads(filesystem.read_bytes(path) or b"{}")
    if newest.get("finished_at", "") <= manifest.finished_at:
        filesystem.replace(path, (json.dumps(latest) + "\n").encode())
    if options.fail_job:  # on workers elsewhere; here the summary says so
        _logger.info("Run finished: %s", root)  # launch/terraform/alerts.tf counts this line
    try:
        filesystem.delete_folder(filesystem.join(root, STAGING_DIR))
    except (OSError, BeamIOError) as error:
        _logger.warning("%s/%s is left over and can be removed: %s", root, STAGING_DIR, error)
    return manifest


def check_output(write: WriteOptions) -> None:
    """Proves that the run's folder can be written and holds no finished run, and claims it for this job.

    Raises:
        FinishedError: there is one.
        UsageError: it cannot be written.
    """
    root = filesystem.join(write.output, write.run_id)
    try:
        earlier = find_manifest(root)
        if earlier is None or earlier.failure is not None:
            if write.claim_in_job:
                announce(write)
                return
            claim(write)
            filesystem.delete(filesystem.join(root, FAILED_NAME))
            return
    except JobError:
        raise
    except Exception as error:  # every storage has errors of its own
        raise UsageError(
            f"--output {write.output} cannot be written: {error}. Name a folder you may write to."
        ) from error
    raise FinishedError(
        f"--run_id {write.run_id}: {root} holds a finished run, which stays as it is. Choose another id, or "
        "leave --run_id out to have one made."
    )


def run_to_resume(output: str, run_id: str | None) -> str:
    """Returns the id of the run that ``--resume`` means.

    Args:
        output: root of the runs.
        run_id: as given to ``--run_id``.

    Raises:
        UsageError: no run, or more than one, is unfinished.
    """
    unfinished = find_unfinished(output)
    if run_id is not None:
        if run_id not in unfinished:
            raise UsageError(
                f"--resume: below {output} is no unfinished run {run_id}. Leave --resume out to start one."
            )
        return run_id
    if len(unfinished) == 1:
        return unfinished[0]
    if not unfinished:
        raise UsageError(f"--resume: no run below {output} is unfinished. Leave --resume out to start one.")
    raise UsageError(
        f"--resume: {len(unfinished)} runs below {output} are not finished: {', '.join(unfinished)}. Name "
        "one with --run_id; one of them may be going on right now."
    )

"""What an unfinished run left: which run that is, and which of its files can still be used."""

from __future__ import annotations

import pyarrow as pa

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.incremental.previous_rows import opened
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import STAGING_DIR
from beam_jobs.store.run_folder import find_unfinished


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


def staged_files(write: WriteOptions, kind: str, encode: EncodeSettings, columns: list[str]) -> list[str]:
    """Lists the files of an earlier attempt at a run whose rows can be taken over.

    A file counts if it was closed (a Parquet file ends with its index, so one that was cut off cannot be
    read) and has the same bundle, settings and columns.

    Args:
        write: the run.
        kind: of its rows.
        encode: what is computed now.
        columns: what a row must have.
    """
    root = filesystem.join(write.output, write.run_id)
    staged = [
        path
        for path in filesystem.list_files(filesystem.join(root, STAGING_DIR))
        if filesystem.base_name(path).startswith(f"{kind}-") and path.endswith(".parquet")
    ]
    # An attempt that failed, or was stopped while it moved its files, has them under their final names.
    moved = [path for path in filesystem.list_files(filesystem.join(root, kind)) if path.endswith(".parquet")]
    wanted = encode.file_metadata()
    return sorted(path for path in [*staged, *moved] if _fits(path, wanted, columns))


def _fits(path: str, wanted: dict[str, str], columns: list[str]) -> bool:
    schema = _schema(path)
    if schema is None:
        return False
    metadata = schema.metadata or {}
    digests = ("beam_jobs.bundle_digest", "beam_jobs.settings_digest")
    same = all(metadata.get(key.encode()) == wanted[key].encode() for key in digests)
    return same and not set(columns) - set(schema.names)


def _schema(path: str) -> pa.Schema | None:
    """Reads the schema of a file that may have been cut off; None where it was."""
    try:
        with opened(path) as parquet:
            return parquet.schema_arrow if parquet.metadata.num_rows else None
    except JobError:
        return None

"""What a job takes over: decided and indexed on the machine that submits."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from beam_jobs import storage
from beam_jobs.config import WriteOptions
from beam_jobs.errors import UsageError
from beam_jobs.manifest import CLASSES, EMBEDDINGS, STAGING_DIR, PreviousEntry
from beam_jobs.previous.old_rows import build_index, opened
from beam_jobs.previous.reuse import taken_columns
from beam_jobs.previous.runs import LATEST, PreviousRun, check_whole, difference, find_previous, kind_of
from beam_jobs.previous.staged import staged_files
from beam_jobs.settings import EncodeSettings


@dataclass(frozen=True)
class ReusePlan:
    """Files whose rows are taken over.

    ``index_folder`` is where ``DigestIndex`` finds them, ``notes`` what the user is told.
    """

    index_folder: str
    paths: tuple[str, ...]
    previous: PreviousEntry | None
    notes: tuple[str, ...]


def plan_reuse(
    flags: argparse.Namespace, write: WriteOptions, encode: EncodeSettings, schema: pa.Schema, num_kept: int
) -> ReusePlan | None:
    """Decides which earlier rows a job may take over. Nothing is written.

    Args:
        flags: as given; ``previous`` names the run.
        write: where the new run goes; what an earlier attempt at it left is taken over, too.
        encode: what it computes.
        schema: of its rows.
        num_kept: how many of their columns, the last ones, are the input's own.

    Raises:
        UsageError: there is no such run, or one that was named has nothing to take over.
    """
    if encode.numeric_columns:
        if flags.previous is not None:
            raise UsageError(
                f"--previous: the model takes the columns {list(encode.numeric_columns)} beside the text, "
                "and rows are found by their text alone. Leave --previous out."
            )
        return None
    columns = taken_columns(schema, num_kept)
    kind = EMBEDDINGS if encode.classes is None else CLASSES
    staged = staged_files(write, kind, encode, columns)
    notes = [f"{len(staged)} files of an earlier attempt at this run"] if staged else []
    entry, paths = None, {}
    if flags.previous is not None:
        run = find_previous(flags.previous, write.output)
        if run is None:
            notes.append(f"no finished run below {write.output} yet")
        else:
            entry = PreviousEntry(run_id=run.manifest.run_id, root=run.root)
            why = _obstacle(run, encode, kind, columns, flags)
            paths = {} if why else run.row_files
            notes.append(f"nothing can be taken over from {run.root}: {why}" if why else run.root)
    if not notes:
        return None
    return ReusePlan(_index_folder(write), (*staged, *paths), entry, tuple(notes))


@contextlib.contextmanager
def indexed(plan: ReusePlan | None) -> Iterator[None]:
    """Makes the index that a plan speaks of, and removes it at the end."""
    if plan is None or not plan.paths:
        yield
        return
    try:
        build_index(plan.paths, plan.index_folder)
        yield
    finally:
        shutil.rmtree(plan.index_folder, ignore_errors=True)


def _index_folder(write: WriteOptions) -> str:
    """Gives a folder on this machine; below the run where that is local, to leave nothing elsewhere."""
    if "://" in write.output:
        return tempfile.mkdtemp(prefix="beam_jobs-")
    return storage.join(write.output, write.run_id, STAGING_DIR, f"index-{write.attempt_id}")


def _obstacle(
    run: PreviousRun, encode: EncodeSettings, kind: str, columns: list[str], flags: argparse.Namespace
) -> str:
    """Says why no row of a run can be taken over; empty where they can.

    Raises:
        UsageError: the same where that run was named, or it is no run of this kind, or it is damaged.
    """
    found = kind_of(run)
    if found not in (None, kind):
        raise UsageError(f"--previous {run.root}: its rows are {found}, and this job writes {kind}.")
    check_whole(run)
    why = difference(run.manifest, encode.bundle_digest, encode.digest, vars(flags)) or _missing(run, columns)
    if why and run.is_named:
        raise UsageError(
            f"--previous {flags.previous}: no row of it can be taken over: {why}. Use the same settings, or "
            f"leave --previous out. (--previous {LATEST} goes on and computes everything.)"
        )
    return why


def _missing(run: PreviousRun, columns: list[str]) -> str:
    """Says which columns the earlier rows lack; empty where they have all."""
    for path in run.row_files:
        with opened(path) as parquet:
            missing = sorted(set(columns) - set(parquet.schema_arrow.names))
        return f"its rows have no column {missing}" if missing else ""
    return ""

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
from beam_jobs.settings import EncodeSettings


@dataclass(frozen=True)
class ReusePlan:
    """Files whose rows are taken over.

    ``index_folder`` is where ``DigestIndex`` finds them, ``note`` what the user is told.
    """

    index_folder: str
    paths: tuple[str, ...]
    previous: PreviousEntry | None
    note: str


def plan_reuse(
    flags: argparse.Namespace, write: WriteOptions, encode: EncodeSettings, schema: pa.Schema, num_kept: int
) -> ReusePlan | None:
    """Decides which earlier rows a job may take over. Nothing is written.

    Args:
        flags: as given; ``previous`` names the run.
        write: where the new run goes.
        encode: what it computes.
        schema: of its rows.
        num_kept: how many of their columns, the last ones, are the input's own.

    Raises:
        UsageError: there is no such run, or one that was named has nothing to take over.
    """
    if flags.previous is None:
        return None
    _check_texts_alone(encode)
    run = find_previous(flags.previous, write.output)
    folder = _index_folder(write)
    if run is None:
        return ReusePlan(folder, (), None, f"no finished run below {write.output} yet")
    entry = PreviousEntry(run_id=run.manifest.run_id, root=run.root)
    _check_kind(run, encode)
    check_whole(run)
    why = difference(run.manifest, encode.bundle_digest, encode.digest, vars(flags)) or _missing(
        run, taken_columns(schema, num_kept)
    )
    if not why:
        return ReusePlan(folder, tuple(run.row_files), entry, run.root)
    if run.is_named:
        raise UsageError(
            f"--previous {flags.previous}: no row of it can be taken over: {why}. Use the same settings, or "
            f"leave --previous out. (--previous {LATEST} goes on and computes everything.)"
        )
    return ReusePlan(folder, (), entry, f"nothing can be taken over from {run.root}: {why}")


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


def _check_texts_alone(encode: EncodeSettings) -> None:
    if encode.numeric_columns:
        raise UsageError(
            f"--previous: the model takes the columns {list(encode.numeric_columns)} beside the text, and "
            "rows are found by their text alone. Leave --previous out."
        )


def _check_kind(run: PreviousRun, encode: EncodeSettings) -> None:
    kind = EMBEDDINGS if encode.classes is None else CLASSES
    found = kind_of(run)
    if found not in (None, kind):
        raise UsageError(f"--previous {run.root}: its rows are {found}, and this job writes {kind}.")


def _missing(run: PreviousRun, columns: list[str]) -> str:
    """Says which columns the earlier rows lack; empty where they have all."""
    for path in run.row_files:
        with opened(path) as parquet:
            missing = sorted(set(columns) - set(parquet.schema_arrow.names))
        return f"its rows have no column {missing}" if missing else ""
    return ""

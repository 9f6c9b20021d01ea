"""What a job takes over from earlier runs, as decided before any work."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from beam_jobs.base.config import WriteOptions
from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.incremental.previous_documents import PreviousFiles, index_documents
from beam_jobs.pipeline.incremental.previous_rows import copied_columns, index_rows, opened, staged_files
from beam_jobs.pipeline.incremental.previous_run import (
    LATEST,
    PreviousRun,
    chain_of,
    check_whole,
    difference,
    find_previous,
    kind_of,
)
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import CLASSES, EMBEDDINGS, STAGING_DIR, PreviousEntry

Emit = Literal["all", "changes"]


@dataclass(frozen=True)
class ReusePlan:
    """Earlier rows and documents, and what is done with them.

    ``folder`` is a place on this machine for indexes. ``paths`` are files whose rows are taken over.
    ``known`` are the runs to compare with, the newest first; None where nothing is compared.
    ``same_settings`` is False where no earlier row can stay. ``by_join``: workers share no disk, so there are
    no indexes. ``notes`` are what the user is told.
    """

    folder: str
    paths: tuple[str, ...] = ()
    known: tuple[PreviousFiles, ...] | None = None
    same_settings: bool = True
    previous: PreviousEntry | None = None
    emit: Emit = "all"
    by_join: bool = False
    notes: tuple[str, ...] = ()

    @property
    def rows_folder(self) -> str:
        """Where rows are found by the digest of their text."""
        return f"{self.folder}/texts"

    @property
    def documents_folder(self) -> str | None:
        """Where earlier documents are found by their ids; None where nothing is compared, or by a join."""
        return None if self.known is None or self.by_join else f"{self.folder}/documents"


def plan_reuse(
    flags: argparse.Namespace,
    write: WriteOptions,
    encode: EncodeSettings,
    schema: pa.Schema,
    num_kept: int,
    *,
    by_join: bool,
) -> ReusePlan | None:
    """Decides which earlier rows a job may take over. Nothing is written.

    Args:
        flags: as given; ``previous`` names the run.
        write: where the new run goes; what an earlier attempt at it left is taken over, too.
        encode: what it computes.
        schema: of its rows.
        num_kept: how many of their columns, the last ones, are the input's own.
        by_join: workers share no disk with this machine.

    Raises:
        UsageError: there is no such run, or one that was named has nothing to take over.
    """
    check_flags(flags, encode)
    if encode.numeric_columns:
        return None
    columns = copied_columns(schema, num_kept)
    kind = EMBEDDINGS if encode.classes is None else CLASSES
    staged = staged_files(write, kind, encode, columns)
    notes = (f"{len(staged)} files of an earlier attempt at this run",) if staged else ()
    folder = "" if by_join else _folder(write)
    if flags.previous is None:
        return ReusePlan(folder, tuple(staged), by_join=by_join, notes=notes) if staged else None
    run = find_previous(flags.previous, write.output)
    if run is None:
        note = f"no finished run below {write.output} yet"
        return ReusePlan(folder, tuple(staged), known=(), by_join=by_join, notes=(*notes, note))
    chain = chain_of(run)
    why = _obstacle(chain, encode, kind, columns, flags)
    return ReusePlan(
        folder,
        paths=(*staged, *(path for part in chain if not why for path in part.row_files)),
        known=tuple(PreviousFiles(tuple(part.row_files), tuple(part.change_files)) for part in chain),
        same_settings=not why,
        previous=PreviousEntry(run_id=run.manifest.run_id, root=run.root),
        emit=flags.emit,
        by_join=by_join,
        notes=(*notes, f"nothing can be taken over from {run.root}: {why}" if why else run.root),
    )


def check_flags(flags: argparse.Namespace, encode: EncodeSettings) -> None:
    """Refuses flags that do not fit together, or not the model.

    Raises:
        UsageError: which, and what to do.
    """
    if flags.previous is not None and encode.numeric_columns:
        raise UsageError(
            f"--previous: the model takes the columns {list(encode.numeric_columns)} beside the text, and "
            "rows are found by their text alone. Leave --previous out."
        )
    if flags.emit == "changes" and flags.previous is None:
        raise UsageError("--emit changes needs --previous: the run that the changes are relative to.")


def _folder(write: WriteOptions) -> str:
    """Returns a folder on this machine; below the run where that is local, to leave nothing elsewhere."""
    if "://" in write.output:
        return tempfile.mkdtemp(prefix="beam_jobs-")
    return filesystem.join(write.output, write.run_id, STAGING_DIR, f"index-{write.attempt_id}")


def _obstacle(
    chain: tuple[PreviousRun, ...],
    encode: EncodeSettings,
    kind: str,
    columns: list[str],
    flags: argparse.Namespace,
) -> str:
    """Says why no row of some runs can be taken over; empty where they can.

    Raises:
        UsageError: the same where that run was named, or it is no run of this kind, or it is damaged.
    """
    run = chain[0]
    for part in chain:
        found = kind_of(part)
        if found not in (None, kind):
            raise UsageError(f"--previous {run.root}: its rows are {found}, and this job writes {kind}.")
        check_whole(part)
    why = difference(run.manifest, encode.bundle_digest, encode.digest, vars(flags))
    why = why or _missing(chain, columns)
    if why and flags.emit == "changes":
        raise UsageError(
            f"--emit changes: no row of {run.root} can stay as it is: {why}. Use the same settings, or "
            "--emit all, which computes everything."
        )
    if why and run.is_named:
        raise UsageError(
            f"--previous {flags.previous}: no row of it can be taken over: {why}. Use the same settings, or "
            f"leave --previous out. (--previous {LATEST} goes on and computes everything.)"
        )
    return why


def _missing(chain: tuple[PreviousRun, ...], columns: list[str]) -> str:
    """Says which columns the earlier rows lack; empty where they have all."""
    for run in chain:
        for path in list(run.row_files)[:1]:
            with opened(path) as parquet:
                missing = sorted(set(columns) - set(parquet.schema_arrow.names))
            if missing:
                return f"its rows have no column {missing}"
    return ""


@contextlib.contextmanager
def indexed(plan: ReusePlan | None) -> Iterator[None]:
    """Builds the indexes of a plan, and removes them at the end.

    Raises:
        JobError: an earlier file cannot be read, or changes cannot be told.
    """
    if plan is None or plan.by_join:
        yield
        return
    try:
        index_rows(plan.paths, plan.rows_folder)
        if plan.documents_folder is not None:
            repeated = index_documents(
                plan.known or (), plan.documents_folder, same_settings=plan.same_settings
            )
            _check_repeated(plan, repeated)
        yield
    finally:
        shutil.rmtree(plan.folder, ignore_errors=True)


def _check_repeated(plan: ReusePlan, repeated: int) -> None:
    if repeated and plan.emit == "changes":
        raise JobError(
            f"--emit changes: {repeated} documents of the earlier run have the id of another one; whoever "
            "replaces rows by their id would lose some. Give every document its own, or use --emit all."
        )

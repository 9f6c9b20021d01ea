"""Plans the reuse of earlier runs before any work, and builds the indexes for it."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.units import count
from beam_jobs.errors import JobError, UsageError
from beam_jobs.pipeline.incremental.digests import KnownDigests, digests_of_attempts, digests_of_runs
from beam_jobs.pipeline.incremental.previous_documents import PreviousFiles, index_documents
from beam_jobs.pipeline.incremental.previous_rows import (
    copied_columns,
    index_rows,
    open_parquet,
    staged_files,
)
from beam_jobs.pipeline.incremental.previous_run import (
    LATEST,
    PreviousRun,
    chain_of,
    check_whole,
    difference,
    find_previous,
    kind_of,
)
from beam_jobs.pipeline.rows.schema import WINDOW_DIGEST
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import CLASSES, EMBEDDINGS, STAGING_DIR, PreviousEntry
from beam_jobs.store.row_columns import lacking, without_added

Emit = Literal["all", "changes"]


@dataclass(frozen=True)
class ReusePlan:
    """Earlier rows and documents, and how they are used.

    ``folder`` is a local folder for indexes. ``paths`` are files whose rows are reused. ``previous_files``
    are those of the runs to compare with, the newest first; None without a comparison. ``same_settings`` is
    False if no earlier row can be kept. ``by_join``: workers share no disk, so there are no indexes.
    ``notes`` are shown to the user. ``needs`` are the folders of the earlier runs,
    ``digests`` are those that their files must have. ``by_window``: windows of documents whose text changed
    are reused, too.
    """

    folder: str
    paths: tuple[str, ...] = ()
    previous_files: tuple[PreviousFiles, ...] | None = None
    same_settings: bool = True
    previous: PreviousEntry | None = None
    emit: Emit = "all"
    by_join: bool = False
    notes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    digests: KnownDigests = field(default_factory=KnownDigests)
    by_window: bool = False

    @property
    def rows_folder(self) -> str:
        """Folder of the index of rows by the digest of their text."""
        return f"{self.folder}/texts"

    @property
    def documents_folder(self) -> str | None:
        """Folder of the index of earlier documents by id; None without a comparison, or with a join."""
        return None if self.previous_files is None or self.by_join else f"{self.folder}/documents"


def plan_reuse(
    flags: argparse.Namespace,
    write: WriteOptions,
    encode: EncodeSettings,
    schema: pa.Schema,
    num_kept: int,
    *,
    by_join: bool,
) -> ReusePlan | None:
    """Decides which earlier rows a job can reuse; writes nothing.

    Args:
        flags: flags of the job; ``previous`` names the earlier run.
        write: options of the new run; rows left by an earlier attempt at it are reused, too.
        encode: settings of the encoding step.
        schema: schema of the rows.
        num_kept: number of kept input columns, which come last.
        by_join: workers share no disk with this machine.

    Returns:
        The plan; None if nothing can be reused or compared.

    Raises:
        UsageError: there is no such run, or none of its rows can be reused.
    """
    check_flags(flags, encode)
    if encode.numeric_columns:
        return None
    columns = copied_columns(schema, num_kept)
    kind = EMBEDDINGS if encode.classes is None else CLASSES
    staged = staged_files(write, kind, encode, columns)
    notes = (f"{count(len(staged), 'file')} of an earlier attempt at this run",) if staged else ()
    folder = "" if by_join else _folder(write)
    left = digests_of_attempts(write) if staged else frozenset()
    known = KnownDigests(of_attempts=left)
    if flags.previous is None:
        plan = ReusePlan(folder, tuple(staged), by_join=by_join, notes=notes, digests=known)
        return plan if staged else None
    run = find_previous(flags.previous, write.output)
    if run is None:
        note = f"no finished run below {write.output} yet"
        notes = (*notes, note)
        return ReusePlan(
            folder, tuple(staged), previous_files=(), by_join=by_join, notes=notes, digests=known
        )
    chain = chain_of(run)
    why = _obstacle(chain, encode, kind, columns, flags, schema)
    return ReusePlan(
        folder,
        paths=(*staged, *(path for part in chain if not why for path in part.row_files)),
        previous_files=tuple(
            PreviousFiles(tuple(part.row_files), tuple(part.change_files)) for part in chain
        ),
        same_settings=not why,
        previous=PreviousEntry(run_id=run.manifest.run_id, root=run.root, sha256=run.sha256),
        emit=flags.emit,
        by_join=by_join,
        notes=(*notes, f"nothing can be reused from {run.root}: {why}" if why else run.root),
        needs=tuple(part.root for part in chain),
        digests=KnownDigests(digests_of_runs(chain), left),
        by_window=not why and WINDOW_DIGEST in columns,
    )


def check_flags(flags: argparse.Namespace, encode: EncodeSettings) -> None:
    """Rejects contradictory flags and those that do not fit the model.

    Raises:
        UsageError: with the flag and what to do.
    """
    if flags.previous is not None and encode.numeric_columns:
        raise UsageError(
            f"--previous: the model also takes the columns {list(encode.numeric_columns)}, but rows are "
            "found by their text only. Leave --previous out."
        )
    if flags.emit == "changes" and flags.previous is None:
        raise UsageError("--emit changes needs --previous, the run that the changes are relative to.")


def _folder(write: WriteOptions) -> str:
    """Returns a folder for indexes: below the run if that is local, else a temporary one."""
    if not filesystem.is_local(write.output):
        return tempfile.mkdtemp(prefix="beam_jobs-")
    return filesystem.join(write.output, write.run_id, STAGING_DIR, f"index-{write.attempt_id}")


def _obstacle(
    chain: tuple[PreviousRun, ...],
    encode: EncodeSettings,
    kind: str,
    columns: list[str],
    flags: argparse.Namespace,
    schema: pa.Schema,
) -> str:
    """Returns why no row of some runs can be reused; empty if they can.

    Raises:
        UsageError: the same for a run named by the user; the run has another kind of rows or is damaged.
    """
    run = chain[0]
    for part in chain:
        found = kind_of(part)
        if found not in (None, kind):
            raise UsageError(f"--previous {run.root}: its rows are {found}, but this job writes {kind}.")
        check_whole(part)
    why = difference(run.manifest, encode.bundle_digest, encode.digest, vars(flags))
    why = why or _missing(chain, columns)
    if flags.emit == "changes":
        why = why or _different(chain, schema)
    if why and flags.emit == "changes":
        raise UsageError(
            f"--emit changes: no row of {run.root} can be kept: {why}. Use the same settings, or --emit all, "
            "which computes everything."
        )
    if why and run.is_named:
        raise UsageError(
            f"--previous {flags.previous}: none of its rows can be reused: {why}. Use the same settings, or "
            f"leave --previous out. (--previous {LATEST} continues and computes everything.)"
        )
    return why


def _missing(chain: tuple[PreviousRun, ...], columns: list[str]) -> str:
    """Returns which columns the earlier rows lack; empty if they have all."""
    for run in chain:
        for path in list(run.row_files)[:1]:
            with open_parquet(path) as parquet:
                missing = lacking(parquet.schema_arrow, columns)
            if missing:
                return f"its rows have no column {missing}"
    return ""


def _different(chain: tuple[PreviousRun, ...], schema: pa.Schema) -> str:
    """Returns in which columns the earlier rows differ; empty if they can be read together with ours."""
    ours = {(field.name, str(field.type)) for field in without_added(schema)}
    for run in chain:
        for path in list(run.row_files)[:1]:
            with open_parquet(path) as parquet:
                theirs = {(f.name, str(f.type)) for f in without_added(parquet.schema_arrow)}
            if ours != theirs:
                return f"the columns {sorted({name for name, _ in ours ^ theirs})} are not the same in both"
    return ""


@contextlib.contextmanager
def indexed(plan: ReusePlan | None) -> Iterator[None]:
    """Builds the indexes of a reuse plan on the launching machine, and removes them at the end.

    Raises:
        JobError: an earlier file cannot be read or was changed, or changes are ambiguous.
    """
    if plan is None or plan.by_join:
        yield
        return
    try:
        compared = [path for run in plan.previous_files or () for path in (*run.row_files, *run.change_files)]
        trusted = {path: plan.digests.check(path) for path in dict.fromkeys((*plan.paths, *compared))}
        index_rows([path for path in plan.paths if trusted[path]], plan.rows_folder)
        if plan.documents_folder is not None:
            repeated = index_documents(
                plan.previous_files or (),
                plan.documents_folder,
                same_settings=plan.same_settings,
                with_places=plan.by_window,
            )
            _check_repeated(plan, repeated)
        yield
    finally:
        shutil.rmtree(plan.folder, ignore_errors=True)


def _check_repeated(plan: ReusePlan, repeated: int) -> None:
    if repeated and plan.emit == "changes":
        raise JobError(
            f"--emit changes: the ids of the earlier run are not unique "
            f"({count(repeated, 'repetition')}), so replacing rows by id would lose some. Give every "
            "document a unique id, or use --emit all."
        )

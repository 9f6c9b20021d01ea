"""Builds the indexes that a plan speaks of, on the machine that starts the job."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from beam_jobs.errors import JobError
from beam_jobs.pipeline.incremental.plan import ReusePlan
from beam_jobs.pipeline.incremental.previous_documents import build_known
from beam_jobs.pipeline.incremental.previous_rows import build_index


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
        build_index(plan.paths, plan.index_folder)
        if plan.known_folder is not None:
            repeated = build_known(plan.known or (), plan.known_folder, same_settings=plan.same_settings)
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

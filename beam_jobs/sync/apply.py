"""Brings a table to a run, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

from beam_jobs.base.units import count
from beam_jobs.errors import JobError, UsageError
from beam_jobs.store.dataset import row_files, run_schema, vector_columns
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.sync.documents import DocumentIds
from beam_jobs.sync.mark import check_same_kind, first_mark, marked
from beam_jobs.sync.plan import Plan, Step, make_plan
from beam_jobs.sync.progress import Progress
from beam_jobs.sync.store import Layout, Store

_PLACES = ("window_index", "word_index")


def layout_of(run: FinishedRun) -> Layout:
    """Returns the columns of a run.

    Raises:
        UsageError: it has no vectors, or no rows to take the columns from.
    """
    if not row_files(run):
        raise UsageError(f"{run.folder} has no rows, so there is no table to make of it.")
    schema = run_schema(run)
    dimensions = vector_columns(schema)
    if not dimensions:
        raise UsageError(f"{run.folder} has no vectors but classes; a sync takes runs of beam_jobs.embed.")
    place = next((name for name in _PLACES if name in schema.names), None)
    return Layout(schema, dimensions, place)


def sync(run: FinishedRun, layout: Layout, store: Store, progress: Progress, *, anew: bool = False) -> str:
    """Brings a table to a run and returns one line on what was done.

    Args:
        run: the run, with those before it.
        layout: its columns.
        store: the table.
        progress: told of each batch.
        anew: write everything, whatever the mark says.

    Raises:
        UsageError: the table cannot hold the run; nothing was written.
        JobError: reading or writing failed, and the same command continues; or others changed the table.
    """
    mark, target = store.read_mark(), marked(run)
    ids = DocumentIds(run, layout.place)
    wanted = first_mark(run, layout.schema, layout.dimensions)
    if mark is not None:
        check_same_kind(mark, wanted, store.where)
        held = None if anew or mark.target is not None else mark.current
        if held is not None and held.sha256 == target.sha256:
            _check_count(store, ids)
            return f"{store.where} holds the run {target.run_id} already; nothing was written."
    plan = make_plan(run, mark, store, ids, anew=anew)
    begun = (mark or wanted).begun(target, trusted=plan.trusted)
    progress.start(plan.reason, plan.num_rows)
    store.begin(begun, layout)
    num_rows = 0
    for step, is_last in _with_last(plan):
        store.write(step.gone, step.rows, begun.ended() if is_last else None)
        written = step.rows.num_rows if step.rows is not None else 0
        num_rows += written
        progress.add(written)
    _check_count(store, ids)
    return (
        f"{store.where} holds the run {target.run_id}: {count(num_rows, 'row')} written ({plan.reason}), "
        f"{count(len(ids), 'document')} in all."
    )


def _check_count(store: Store, ids: DocumentIds) -> None:
    """Rejects a table from which others removed rows, or to which they added some: the mark cannot tell."""
    num_rows = store.num_rows()
    if num_rows != ids.num_rows:
        raise JobError(
            f"{store.where} has {count(num_rows, 'row')}, the run {ids.num_rows:,}: not only syncs "
            "changed it. --everything writes all rows again, and removes those of other documents."
        )


def _with_last(plan: Plan) -> Iterator[tuple[Step, bool]]:
    """Yields each step, and whether it is the last one; one empty step if there are none."""
    before: Step | None = None
    for step in plan.steps:
        if before is not None:
            yield before, False
        before = step
    yield before or Step([], None), True

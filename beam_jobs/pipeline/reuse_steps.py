"""The steps of taking rows over, as the runner needs them: through an index on this machine, or by a join."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from beam_jobs.job.console.progress_line import ProgressSink
from beam_jobs.pipeline.incremental.changes_by_join import CompareRows
from beam_jobs.pipeline.incremental.plan import ReusePlan
from beam_jobs.pipeline.incremental.reuse_by_index import ReusedDocuments, ReuseRows
from beam_jobs.pipeline.incremental.reuse_by_join import JoinRows
from beam_jobs.pipeline.write.transform import RunInputs


def take_over(plan: ReusePlan, schema: pa.Schema, num_kept: int, progress: ProgressSink) -> Any:
    """Returns the transform from documents to ``ReusedDocuments``."""
    if plan.by_join:
        return JoinRows(plan, schema, num_kept)
    return ReuseRows(plan, schema, num_kept, progress)


def with_reused(run: RunInputs, reused: ReusedDocuments, plan: ReusePlan) -> RunInputs:
    """Adds what was taken over to what is written; by a join, also what changed."""
    changes = None
    if plan.by_join and plan.known is not None:
        changes = (run.rows, reused.rows) | "Compare" >> CompareRows(plan, reused.unchanged_pairs)
    return run._replace(reused=reused.rows, unchanged=reused.unchanged, changes=changes)

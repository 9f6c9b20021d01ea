"""Builds the pipeline of a job from its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from beam_jobs.base.config import ReadOptions, WriteOptions
from beam_jobs.base.progress import ProgressSink
from beam_jobs.pipeline.encode.transform import EncodeDocuments
from beam_jobs.pipeline.incremental.changes_by_join import CompareRows
from beam_jobs.pipeline.incremental.earlier_windows import EarlierWindows
from beam_jobs.pipeline.incremental.plan import ReusePlan
from beam_jobs.pipeline.incremental.reuse_by_index import ReusedDocuments, ReuseRows
from beam_jobs.pipeline.incremental.reuse_by_join import JoinRows
from beam_jobs.pipeline.read.transform import ReadDocuments
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.dead_limit import CountRead, StopAfterDead
from beam_jobs.pipeline.write.description import RunDescription
from beam_jobs.pipeline.write.stop import StopWhenEnded
from beam_jobs.pipeline.write.transform import RunInputs, WriteRun

if TYPE_CHECKING:
    from beam_jobs.pipeline.read.inspect import InputSummary


@dataclass(frozen=True)
class JobPlan:
    """All resolved and validated settings of a job.

    ``redistribute`` spreads documents over workers between reading and the model. That helps with few files
    and many workers, and costs memory on the in-process runner, which holds every shuffle in memory.
    """

    read: ReadOptions
    summary: InputSummary
    encode: EncodeSettings
    write: WriteOptions
    description: RunDescription
    redistribute: bool
    reuse: ReusePlan | None = None


def build(pipeline: Any, plan: JobPlan) -> Any:
    """Builds the graph: read, encode, write. Returns the run manifest as a PCollection of one."""
    progress = ProgressSink(plan.write.attempt_id)
    inputs = pipeline | "Read" >> ReadDocuments(
        plan.read, plan.summary, redistribute=plan.redistribute, progress=progress
    )  # documents: PCollection[Document]; dead_letters: PCollection[DeadLetter]; dead_files
    num_read = (
        inputs.documents | "CountDocuments" >> beam.combiners.Count.Globally(),  # PCollection[int]
        inputs.dead_letters | "CountUnreadable" >> beam.combiners.Count.Globally(),  # PCollection[int]
    ) | "NumRead" >> beam.Flatten()  # PCollection[int]
    documents, limits = inputs.documents, plan.description.limits
    if limits.stop_after_dead is not None and limits.stop_after_dead < 1:
        documents |= "CountRead" >> CountRead(plan.write)  # PCollection[Document]
    if plan.write.claim_in_job:  # such engines may run all of it again
        documents |= "Stop" >> StopWhenEnded(plan.write)  # PCollection[Document]
    earlier = None
    if plan.reuse is not None and plan.reuse.by_window:
        earlier = EarlierWindows(plan.encode, plan.reuse.paths)
    encode = EncodeDocuments(plan.encode, plan.summary.kept_schema, progress, earlier)
    reused: ReusedDocuments | None = None
    if plan.reuse is not None:
        num_kept = len(plan.summary.kept_schema)
        reuse: beam.PTransform = ReuseRows(plan.reuse, encode.schema, num_kept, progress)
        if plan.reuse.by_join:
            reuse = JoinRows(plan.reuse, encode.schema, num_kept)
        reused = documents | "Reuse" >> reuse
        documents = reused.documents  # PCollection[Document]
    if plan.redistribute:
        documents |= "Redistribute" >> beam.Reshuffle()  # PCollection[Document]
    encoded = documents | "Encode" >> encode  # rows: PCollection[pa.RecordBatch]; dead_letters
    dead_letters = (
        inputs.dead_letters,
        encoded.dead_letters,
    ) | "DeadLetters" >> beam.Flatten()  # PCollection[DeadLetter]
    if limits.stop_after_dead is not None:
        dead_letters |= "StopAfterDead" >> StopAfterDead(plan.write, limits)  # PCollection[DeadLetter]
    run = RunInputs(
        encoded.rows, dead_letters, num_read, inputs.dead_files, window_changes=encoded.window_changes
    )
    documents_folder = None
    if plan.reuse is not None and reused is not None:
        run, documents_folder = _with_reused(run, reused, plan.reuse), plan.reuse.documents_folder
    return run | "Write" >> WriteRun(
        plan.write, encode.schema, plan.description, documents_folder
    )  # PCollection[RunManifest]


def _with_reused(run: RunInputs, reused: ReusedDocuments, plan: ReusePlan) -> RunInputs:
    """Adds reused rows to the inputs of ``WriteRun``; with a join, also the changes."""
    changes = None
    if plan.by_join and plan.previous_files is not None:
        changes = (run.rows, reused.rows) | "Compare" >> CompareRows(plan, reused.unchanged_pairs)
    return run._replace(reused=reused.rows, unchanged=reused.unchanged, changes=changes)

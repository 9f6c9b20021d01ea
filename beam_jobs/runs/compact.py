"""``runs RUN compact``: copies a run into fewer, larger files, as a new run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TextIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.runners.runner import PipelineState

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.base.units import count, format_bytes
from beam_jobs.errors import JobError, UsageError
from beam_jobs.job.flags.beam import is_in_process, pipeline_options
from beam_jobs.pipeline.rows.copied import document_rows
from beam_jobs.pipeline.rows.cost import with_counts
from beam_jobs.pipeline.write.commit import CommitRun, failure_of
from beam_jobs.pipeline.write.description import RunDescription, new_run, whole_manifest, without_files
from beam_jobs.pipeline.write.stop import StopWhenEnded
from beam_jobs.pipeline.write.transform import WriteShards
from beam_jobs.store import filesystem
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.chain import HiddenIds, find_collection
from beam_jobs.store.dataset import file_schema, run_schema
from beam_jobs.store.digest import check_digest
from beam_jobs.store.filesystem import absolute_path
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.latest import read_latest
from beam_jobs.store.manifest import (
    CHANGES,
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    WINDOW_CHANGES,
    RunFile,
    RunManifest,
)
from beam_jobs.store.row_columns import column_of
from beam_jobs.store.run_folder import check_output, find_manifest
from model_bundle.base.untrusted.printable import show

DEFAULT_SHARD_BYTES = 512_000_000
# Files are split only by size, since no computed work could be lost in a crash.
_NO_CHECKPOINT = 1e9
_ROWS = (EMBEDDINGS, CLASSES)
_CHANGES = (CHANGES, WINDOW_CHANGES)


# Files that one worker copies, each with the place of its run in the chain.
_Files = tuple[tuple[int, RunFile], ...]


def compact(flags: Namespace, rest: Sequence[str], own_flags: Sequence[str], stream: TextIO) -> int:
    """Copies a run into fewer files and returns the exit code.

    Raises:
        UsageError: there is no finished run, or its copy would replace a newer run as the latest.
        JobError: a file differs from the manifest, or the copy failed.
    """
    run = find_collection(absolute_path(flags.place), only_this_run=flags.only_this_run)
    root = absolute_path(flags.output) if flags.output else run.folder.rpartition("/")[0]
    _check_latest(run, root)
    in_process = is_in_process(flags.runner)
    write = new_run(
        root,
        flags.run_id,
        max_shard_bytes=flags.max_shard_bytes or DEFAULT_SHARD_BYTES,
        checkpoint_seconds=_NO_CHECKPOINT,
        fail_job=not in_process,
    )
    options = pipeline_options(flags.runner, list(rest), list(own_flags))
    check_output(write)
    pipeline = beam.Pipeline(options=options)
    build_compaction(pipeline, run, write)
    manifest = _run(pipeline, write)
    if manifest is None:
        return 0  # submitted to a runner that does not wait
    if manifest.failure is not None:
        raise failure_of(manifest)
    copied = [file for files in files_to_copy(run).values() for _, file in files]
    before, after = (sum(file.num_bytes for file in files) for files in (copied, manifest.files))
    show(
        f"{count(len(copied), 'file')}, {format_bytes(before)} -> "
        f"{count(len(manifest.files), 'file')}, {format_bytes(after)}: "
        f"{filesystem.join(root, write.run_id)}\n{run.folder} was kept. To delete old runs: "
        f"python -m beam_jobs.runs {root} delete --keep 1",
        stream,
    )
    return 0


def build_compaction(pipeline: Any, run: FinishedRun, write: WriteOptions) -> Any:
    """Builds the graph: read files, write larger ones, commit. Returns a PCollection of the manifest."""
    receipts = []
    for kind, ours in sorted(files_to_copy(run).items()):
        precision = None if kind == DEAD_LETTERS else run.manifest.precision
        schema = _schema(run, *ours[0], write)
        receipts.append(
            pipeline
            | f"Files/{kind}" >> beam.Create(list(plan_parts(ours, write.max_shard_bytes)))  # […[_Files]]
            | f"Spread/{kind}" >> beam.Reshuffle()  # PCollection[_Files]
            | f"Stop/{kind}" >> StopWhenEnded(write)  # PCollection[_Files]
            | f"Read/{kind}"
            >> beam.ParDo(_ReadDoFn(_with_changes_alone(run), schema))  # PCollection[pa.RecordBatch]
            | f"Write/{kind}" >> WriteShards(kind, schema, write, precision)
        )  # PCollection[Receipt]
    none = pipeline | "NoneRead" >> beam.Create([0])  # PCollection[int]
    entries = (*receipts, none) | "Entries" >> beam.Flatten()  # PCollection[Receipt | int]
    return entries | "Commit" >> CommitRun(write, _describe(run))  # PCollection[RunManifest]


def files_to_copy(run: FinishedRun) -> dict[str, list[tuple[int, RunFile]]]:
    """Returns the files to copy by kind, each with the place of its run in the chain.

    Of the runs before a run of changes only rows are copied: their dead letters were read again since, and
    a whole run has no changes.
    """
    found: dict[str, list[tuple[int, RunFile]]] = {}
    newest = len(run.before)
    for place, part in enumerate(run.chain):
        for file in part.manifest.files:
            if file.kind in _ROWS or (place == newest and not (run.before and file.kind in _CHANGES)):
                found.setdefault(file.kind, []).append((place, file))
    return found


def plan_parts(ours: Sequence[tuple[int, RunFile]], max_bytes: int) -> Iterator[_Files]:
    """Groups files, in order, so that each group fits into one file of ``max_bytes``.

    A larger file is a group of its own and is split when written.
    """
    part: list[tuple[int, RunFile]] = []
    for place, file in ours:
        if part and sum(other.num_bytes for _, other in part) + file.num_bytes > max_bytes:
            yield tuple(part)
            part = []
        part.append((place, file))
    if part:
        yield tuple(part)


def _with_changes_alone(run: FinishedRun) -> FinishedRun:
    """Drops the other files from manifests, so that they fit into a job request."""
    slim = [FinishedRun(p.folder, p.manifest.model_copy(update={"files": p.change_files})) for p in run.chain]
    return replace(slim[-1], before=tuple(reversed(slim[:-1])))


class _ReadDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Reads files row group by row group, so that the rows of a document stay together."""

    def __init__(self, run: FinishedRun, schema: pa.Schema) -> None:
        self._run = run
        self._schema = schema

    def setup(self) -> None:
        self._hidden = HiddenIds(self._run)

    def process(self, files: _Files) -> Iterator[pa.RecordBatch]:
        for place, file in files:
            part = self._run.chain[place]
            check_digest(part.path_of(file), file.sha256)
            with arrow_filesystem(part.folder).open_input_file(part.path_of(file)) as stream:
                parquet = pq.ParquetFile(stream)
                for group in range(parquet.metadata.num_row_groups):
                    for rows in parquet.read_row_group(group).combine_chunks().to_batches():
                        yield self._live(place, rows) if file.kind in _ROWS else rows

    def _live(self, place: int, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Drops the rows that changed since, adds a column that older ones lack, and counts documents."""
        live = self._hidden.live(place, rows.column("doc_id"))
        rows = rows if live.all() else rows.filter(pa.array(live))
        columns = [column_of(rows, field) for field in self._schema]
        rows = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        return with_counts(rows, {"num_documents": len(document_rows(rows)[0])})


def _schema(run: FinishedRun, place: int, file: RunFile, write: WriteOptions) -> pa.Schema:
    """Returns the schema of the files, with the new run's id in its metadata."""
    schema = run_schema(run) if file.kind in _ROWS else file_schema(run.chain[place], file)
    metadata = dict(schema.metadata or {})
    if b"beam_jobs.run_id" in metadata:
        metadata[b"beam_jobs.run_id"] = write.run_id.encode()
    return schema.with_metadata(metadata)


def _describe(run: FinishedRun) -> RunDescription:
    manifest = whole_manifest(run.manifest) if run.before else run.manifest
    return RunDescription(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=manifest.bundle,
        settings_digest=manifest.settings_digest,
        precision=manifest.precision,
        config=manifest.config,
        limits=FailureLimits(),
        versions=manifest.versions,
        copied_from=without_files(manifest),
    )


def _check_latest(run: FinishedRun, root: str) -> None:
    """Rejects a copy that would replace a newer run as the latest."""
    latest = read_latest(root)
    if latest is not None and latest.run_id != run.manifest.run_id:
        raise UsageError(
            f"{root} has a newer run, {latest.run_id}: a copy of {run.manifest.run_id} would become its "
            "latest. Compact the newer one, or name another --output."
        )


def _run(pipeline: Any, write: WriteOptions) -> RunManifest | None:
    root = filesystem.join(write.output, write.run_id)
    error: Exception | None = None
    try:
        result = pipeline.run()
        result.wait_until_finish()
        if result.state in (PipelineState.FAILED, PipelineState.CANCELLED):
            error = JobError(f"the runner reported the state {result.state}")
    except Exception as caught:  # runners raise any type; the manifest decides whether the copy succeeded
        error = caught
    manifest = find_manifest(root)
    if manifest is not None and manifest.attempt_id == write.attempt_id:
        return manifest
    if error is not None:
        first = str(error).strip().split("\n")[0]
        raise JobError(f"The copy failed: {first}\n{root} is incomplete and can be removed.") from error
    return None

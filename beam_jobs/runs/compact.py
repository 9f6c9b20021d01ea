"""``runs RUN compact``: copies a run into fewer, larger files, as a new run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from beam_jobs.pipeline.write.commit import CommitRun, failure_of
from beam_jobs.pipeline.write.description import RunDescription, new_run, without_files
from beam_jobs.pipeline.write.stop import StopWhenEnded
from beam_jobs.pipeline.write.transform import WriteShards
from beam_jobs.store import filesystem
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.filesystem import absolute_path
from beam_jobs.store.finished_run import FinishedRun, find_whole_run
from beam_jobs.store.latest import read_latest
from beam_jobs.store.manifest import DEAD_LETTERS, RunFile, RunManifest
from beam_jobs.store.run_folder import check_output, find_manifest
from model_bundle.base.untrusted.printable import show

DEFAULT_SHARD_BYTES = 512_000_000
# Files are split only by size, since no computed work could be lost in a crash.
_NO_CHECKPOINT = 1e9


@dataclass(frozen=True)
class _Part:
    """Files that one worker copies: their run's folder and their manifest entries."""

    folder: str
    files: tuple[RunFile, ...]


def compact(flags: Namespace, rest: Sequence[str], own_flags: Sequence[str], stream: TextIO) -> int:
    """Copies a run into fewer files and returns the exit code.

    Raises:
        UsageError: there is no finished run, or its copy would replace a newer run as the latest.
        JobError: a file differs from the manifest, or the copy failed.
    """
    run = find_whole_run(absolute_path(flags.place), only_this_run=flags.only_this_run)
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
    before, after = (sum(file.num_bytes for file in m.files) for m in (run.manifest, manifest))
    show(
        f"{count(len(run.manifest.files), 'file')}, {format_bytes(before)} -> "
        f"{count(len(manifest.files), 'file')}, {format_bytes(after)}: "
        f"{filesystem.join(root, write.run_id)}\n{run.folder} was kept. To delete old runs: "
        f"python -m beam_jobs.runs {root} delete --keep 1",
        stream,
    )
    return 0


def build_compaction(pipeline: Any, run: FinishedRun, write: WriteOptions) -> Any:
    """Builds the graph: read files, write larger ones, commit. Returns a PCollection of the manifest."""
    manifest = run.manifest
    receipts = []
    for kind in sorted({file.kind for file in manifest.files}):
        ours = [file for file in manifest.files if file.kind == kind]
        parts = [_Part(run.folder, part) for part in plan_parts(ours, write.max_shard_bytes)]
        precision = None if kind == DEAD_LETTERS else manifest.precision
        receipts.append(
            pipeline
            | f"Files/{kind}" >> beam.Create(parts)  # PCollection[_Part]
            | f"Spread/{kind}" >> beam.Reshuffle()  # PCollection[_Part]
            | f"Stop/{kind}" >> StopWhenEnded(write)  # PCollection[_Part]
            | f"Read/{kind}" >> beam.FlatMap(_read_part)  # PCollection[pa.RecordBatch]
            | f"Write/{kind}" >> WriteShards(kind, _schema(run, ours[0], write), write, precision)
        )  # PCollection[Receipt]
    none = pipeline | "NoneRead" >> beam.Create([0])  # PCollection[int]
    entries = (*receipts, none) | "Entries" >> beam.Flatten()  # PCollection[Receipt | int]
    return entries | "Commit" >> CommitRun(write, _describe(manifest))  # PCollection[RunManifest]


def plan_parts(ours: Sequence[RunFile], max_bytes: int) -> Iterator[tuple[RunFile, ...]]:
    """Groups files, in order, so that each group fits into one file of ``max_bytes``.

    A larger file is a group of its own and is split when written.
    """
    part: list[RunFile] = []
    for file in ours:
        if part and sum(other.num_bytes for other in part) + file.num_bytes > max_bytes:
            yield tuple(part)
            part = []
        part.append(file)
    if part:
        yield tuple(part)


def _read_part(part: _Part) -> Iterator[pa.RecordBatch]:
    """Reads files row group by row group, so that the rows of a document stay together.

    Raises:
        JobError: a file differs from its entry in the manifest.
    """
    opened = arrow_filesystem(part.folder)
    for file in part.files:
        path = filesystem.join(part.folder, file.path)
        if filesystem.size_of(path) != file.num_bytes or filesystem.sha256_of(path) != file.sha256:
            raise JobError(
                f"{path} has changed since the run's manifest was written, so it was not copied. "
                "Check the run: python -m beam_jobs.runs RUN validate"
            )
        with opened.open_input_file(path) as stream:
            parquet = pq.ParquetFile(stream)
            for group in range(parquet.metadata.num_row_groups):
                yield from parquet.read_row_group(group).combine_chunks().to_batches()


def _schema(run: FinishedRun, file: RunFile, write: WriteOptions) -> pa.Schema:
    """Returns the schema of the files, with the new run's id in its metadata."""
    path = run.path_of(file)
    if filesystem.size_of(path) is None:
        raise JobError(f"{path} is listed in the run's manifest but is missing: the run is damaged.")
    with arrow_filesystem(run.folder).open_input_file(path) as stream:
        schema = pq.read_schema(stream)
    metadata = dict(schema.metadata or {})
    if b"beam_jobs.run_id" in metadata:
        metadata[b"beam_jobs.run_id"] = write.run_id.encode()
    return schema.with_metadata(metadata)


def _describe(manifest: RunManifest) -> RunDescription:
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

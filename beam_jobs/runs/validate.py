"""``runs RUN validate``: re-reads a run and compares it with its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.base.units import count, format_bytes
from beam_jobs.errors import JobError
from beam_jobs.runs.check_rows import DuplicateIds, check_values, find_duplicates
from beam_jobs.store import filesystem
from beam_jobs.store.arrow_files import arrow_filesystem
from beam_jobs.store.chain import find_collection
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import DEAD_LETTERS, RunFile
from model_bundle.base.untrusted.printable import one_line, show
from model_bundle.bundle.manifest import canonical_json

_SHOWN_PROBLEMS = 20
_Check = Callable[[FinishedRun], Iterator[str]]


def validate(path: str, stream: TextIO, *, only_this_run: bool = False) -> int:
    """Checks a run and prints the problems; returns 0 if it is valid, else 1.

    If the run holds only changes, the runs that complete it are checked, too, and then all of them as one
    collection, unless ``only_this_run``.

    Memory is bounded: files are read in parts, and DuckDB counts many ids on disk.

    Raises:
        UsageError: there is no finished run, or one that completes it is missing or another one.
    """
    run = find_collection(path, only_this_run=only_this_run)
    wrong = [part.folder for part in reversed(run.chain) if _validate(part, stream)]
    if wrong or not run.before:
        return 1 if wrong else 0
    found = list(_check_ids(run, set()))
    show(f"{run.folder} with the {count(len(run.before), 'run')} before it", stream)
    _show("ids", found, stream)
    return _end(found, stream)


def _validate(run: FinishedRun, stream: TextIO) -> int:
    manifest = run.manifest
    num_bytes = sum(file.num_bytes for file in manifest.files)
    show(f"{run.folder}: {count(len(manifest.files), 'file')}, {format_bytes(num_bytes)}", stream)
    problems: list[str] = []
    # Files whose bytes have changed; later checks skip them, as they would only report the same again.
    damaged: set[str] = set()
    checks: tuple[tuple[str, _Check], ...] = (
        ("digests", partial(_check_digests, damaged=damaged)),
        ("schemas", partial(_check_schemas, damaged=damaged)),
        ("values", partial(_check_all_values, damaged=damaged)),
        ("counts", _check_counts),
        ("ids", partial(_check_ids, damaged=damaged)),
    )
    for name, check in checks:
        found = list(check(run))
        _show(name, found, stream)
        problems += found
    return _end(problems, stream)


def _show(name: str, found: list[str], stream: TextIO) -> None:
    print(f"  {name:<9}{'good' if not found else count(len(found), 'problem')}", file=stream, flush=True)
    for problem in found[:_SHOWN_PROBLEMS]:
        show(f"    {one_line(problem)}", stream)


def _end(problems: list[str], stream: TextIO) -> int:
    print("valid" if not problems else f"NOT VALID: {count(len(problems), 'problem')}", file=stream)
    return 1 if problems else 0


def _check_digests(run: FinishedRun, damaged: set[str]) -> Iterator[str]:
    """Compares the digest of every file and finds files that the manifest does not list."""
    for file in run.manifest.files:
        problem = _bytes_problem(run.path_of(file), file)
        if problem is not None:
            damaged.add(file.path)
            yield f"{file.path}: {problem}"
    listed = {file.path for file in run.manifest.files}
    for folder in sorted({path.rpartition("/")[0] for path in listed}):
        for name in map(
            filesystem.base_name, sorted(filesystem.list_files(filesystem.join(run.folder, folder)))
        ):
            if f"{folder}/{name}" not in listed:
                yield f"{folder}/{name}: not a file of this run, but readers of the folder would read it"


def _bytes_problem(path: str, file: RunFile) -> str | None:
    found = filesystem.size_of(path)
    if found is None:
        return "missing"
    if found != file.num_bytes:
        return f"has {count(found, 'byte')}, the manifest says {file.num_bytes:,}"
    digest = filesystem.sha256_of(path)
    return None if digest == file.sha256 else f"has the sha256 {digest}, the manifest says {file.sha256}"


def _check_schemas(run: FinishedRun, damaged: set[str]) -> Iterator[str]:
    """Compares schemas, row counts and metadata of the files with each other and with the manifest."""
    filesystem = arrow_filesystem(run.folder)
    first: dict[str, tuple[str, pa.Schema]] = {}
    for file in run.manifest.files:
        if file.path in damaged:
            continue
        with filesystem.open_input_file(run.path_of(file)) as stream:
            parquet = pq.ParquetFile(stream)
            schema, num_rows = parquet.schema_arrow, parquet.metadata.num_rows
        name, expected = first.setdefault(file.kind, (file.path, schema))
        if not schema.equals(expected):
            yield f"{file.path}: its columns differ from those of {name}"
        if num_rows != file.num_rows:
            yield f"{file.path}: has {count(num_rows, 'row')}, the manifest says {file.num_rows:,}"
        if file.kind != DEAD_LETTERS:
            yield from _metadata_problems(run, file, schema)


def _metadata_problems(run: FinishedRun, file: RunFile, schema: pa.Schema) -> Iterator[str]:
    manifest, metadata = run.manifest, schema.metadata or {}
    expected = {
        "run_id": manifest.run_id,
        "bundle_digest": manifest.bundle.get("digest"),
        "settings_digest": manifest.settings_digest,
        "precision": manifest.precision,
    }
    for name, value in expected.items():
        found = metadata.get(f"beam_jobs.{name}".encode())
        if found is not None and found.decode() != value:
            yield f"{file.path}: says {name} {found.decode()}, the manifest says {value}"


def _check_all_values(run: FinishedRun, damaged: set[str]) -> Iterator[str]:
    for file in run.row_files:
        if file.path in damaged:
            continue
        try:
            yield from check_values(run, file)
        except JobError as error:
            damaged.add(file.path)
            yield f"{file.path}: {error}"


def _check_counts(run: FinishedRun) -> Iterator[str]:
    """Checks that the counts in the manifest add up."""
    manifest, counts = run.manifest, run.manifest.counts
    accounted = counts.num_written + counts.num_reused + counts.num_unchanged + counts.num_dead
    if counts.num_read != accounted:
        yield f"{count(counts.num_read, 'document')} read, {accounted:,} written, reused, unchanged or dead"
    num_dead = sum(file.num_rows for file in run.dead_letter_files)
    if num_dead != counts.num_dead:
        yield f"{count(num_dead, 'dead letter')}, the manifest counts {counts.num_dead:,}"
    if sum(counts.dead_by_reason.values()) != counts.num_dead:
        yield f"dead letters by reason add up to {sum(counts.dead_by_reason.values()):,}"
    settings = manifest.settings
    if settings and hashlib.sha256(canonical_json(settings)).hexdigest() != manifest.settings_digest:
        yield "the settings do not match settings_digest"


def _check_ids(run: FinishedRun, damaged: set[str]) -> Iterator[str]:
    """Checks that ids are unique and that the number of documents is right."""
    if damaged:
        yield "not checked, because files are damaged"
        return
    found = find_duplicates(run)
    yield from _id_problems(found)
    counts = run.manifest.counts
    expected = counts.num_written + counts.num_reused + (counts.num_unchanged if run.before else 0)
    if found.num_documents != expected and not found.num_duplicates:
        yield f"rows of {count(found.num_documents, 'document')}, the manifest counts {expected:,}"


def _id_problems(found: DuplicateIds) -> Iterator[str]:
    if found.num_duplicates:
        yield (
            f"ids found more than once: {found.num_duplicates:,}, for example {', '.join(found.examples)}. "
            "A merge by doc_id would be ambiguous; use an --id_column with unique values."
        )
    if found.num_with_dead_letter:
        yield f"documents with both rows and a dead letter: {found.num_with_dead_letter:,}"

"""Finished runs made without a model: rows that a test chose, with the manifest that belongs to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.base.records import DeadLetter
from beam_jobs.pipeline.incremental.changes_by_index import CHANGES_SCHEMA
from beam_jobs.pipeline.rows.schema import dead_letter_batch, row_schema, vector_array
from beam_jobs.store.manifest import PreviousEntry, RunCounts, RunFile, RunManifest
from beam_jobs.store.row_columns import without_added
from model_bundle.bundle.manifest import canonical_json

BUNDLE = {"name": "tiny", "digest": "d" * 64, "place": "nowhere"}
SETTINGS = {"outputs": ["states"], "pooling": "mean", "rows": "document"}
SETTINGS_DIGEST = hashlib.sha256(canonical_json(SETTINGS)).hexdigest()


def make_run(
    root: Path,
    run_id: str,
    shards: Sequence[Mapping[str, Any]],
    *,
    dead: Sequence[DeadLetter] = (),
    finished_at: str = "2026-11-20T10:00:00+00:00",
    failure: str | None = None,
    vector_dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    latest: bool = True,
    **manifest: Any,
) -> Path:
    """Writes a run: a file for each shard, which holds ``vectors``, ``ids`` and further columns by name."""
    folder = root / run_id
    (folder / "embeddings").mkdir(parents=True)
    files = []
    for index, shard in enumerate(shards):
        name = f"embeddings/embeddings-{index:05}-of-{len(shards):05}.parquet"
        table = rows_table(shard, run_id, vector_dtype, metadata or {})
        pq.write_table(table, folder / name, row_group_size=shard.get("group", 2))
        files.append(describe_file(folder, name, "embeddings", table.num_rows))
    if dead:
        (folder / "dead_letters").mkdir()
        name = "dead_letters/dead_letters-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_batches([dead_letter_batch(dead)]), folder / name)
        files.append(describe_file(folder, name, "dead_letters", len(dead)))
    reasons = [letter.reason for letter in dead]
    num_documents = sum(len(set(shard["ids"])) for shard in shards)
    made = RunManifest(
        run_id=run_id,
        attempt_id="a",
        failure=failure,
        failure_kind=None if failure is None else "too_many_dead",
        started_at="2026-11-20T09:00:00+00:00",
        finished_at=finished_at,
        settings_digest=SETTINGS_DIGEST,
        settings=SETTINGS,
        precision="float32",
        counts=RunCounts(
            num_read=num_documents + len(dead),
            num_written=num_documents,
            num_dead=len(dead),
            num_blank=reasons.count("blank_text"),
            num_dead_files=0,
            dead_by_reason={reason: reasons.count(reason) for reason in sorted(set(reasons))},
            num_truncated=0,
            num_tokens=10,
            num_padded_tokens=12,
            num_lost_tokens=0,
            model_seconds=1.5,
        ),
        files=tuple(files),
        **{"config": {}, "versions": {}, "bundle": BUNDLE} | manifest,
    )
    name = "manifest.json" if failure is None else "manifest.failed.json"
    (folder / name).write_bytes(made.to_bytes())
    if latest and failure is None:
        (root / "latest.json").write_text(json.dumps({"run_id": run_id, "finished_at": finished_at}))
    return folder


def rows_table(
    shard: Mapping[str, Any], run_id: str, vector_dtype: str, metadata: Mapping[str, str]
) -> pa.Table:
    """Builds the rows of a shard, with the columns that a job writes, or with ``older`` wrote once."""
    vectors = np.asarray(shard["vectors"], np.float32)
    own = [name for name in ("window_index", "word_index", "word", "char_start", "char_end") if name in shard]
    known = {"vectors", "ids", "group", "older", "num_unknown_tokens", "text", *own}
    kept = pa.table({name: shard[name] for name in shard if name not in known}).schema
    said = {
        "beam_jobs.run_id": run_id,
        "beam_jobs.bundle_digest": "d" * 64,
        "beam_jobs.settings_digest": SETTINGS_DIGEST,
        "beam_jobs.dimension": str(vectors.shape[1]),
        "beam_jobs.precision": "float32",
        "beam_jobs.normalized": "false",
    }
    schema = row_schema(
        ["embedding"],
        vector_dtype,
        kept,
        keep_text="text" in shard,
        place_columns=own,
        metadata=said | dict(metadata),
    )
    schema = without_added(schema) if shard.get("older") else schema
    ids = shard["ids"]
    columns: dict[str, Any] = {
        "doc_id": ids,
        "source": ["in.jsonl"] * len(ids),
        "text_sha256": ["0" * 64] * len(ids),
        "num_tokens": [3] * len(ids),
        "was_truncated": [False] * len(ids),
        "num_unknown_tokens": [0] * len(ids),
        "embedding": vector_array(vectors, vector_dtype),
    }
    columns |= {name: values for name, values in shard.items() if name not in ("vectors", "ids", "group")}
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def describe_file(folder: Path, name: str, kind: Any, num_rows: int) -> RunFile:
    """Returns what a manifest says of a file."""
    data = (folder / name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return RunFile(path=name, kind=kind, num_rows=num_rows, num_bytes=len(data), sha256=digest)


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """Changes fields of a manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def make_changes(
    root: Path,
    run_id: str,
    before: str,
    shards: Sequence[Mapping[str, Any]],
    change: Mapping[str, str],
    *,
    num_documents: int,
) -> Path:
    """Writes a run of changes: rows, what became of ids, and the number of documents of the collection."""
    earlier = root / before
    digest = hashlib.sha256((earlier / "manifest.json").read_bytes()).hexdigest()
    entry = PreviousEntry(run_id=before, root=str(earlier), sha256=digest)
    folder = make_run(root, run_id, shards, emit="changes", previous=entry)
    content = json.loads((folder / "manifest.json").read_text())
    name = "changes/changes-00000-of-00001.parquet"
    (folder / "changes").mkdir()
    rows = [{"doc_id": doc_id, "change": kind} for doc_id, kind in change.items()]
    pq.write_table(pa.Table.from_pylist(rows, schema=CHANGES_SCHEMA), folder / name)
    content["files"].append(describe_file(folder, name, "changes", len(rows)).model_dump())
    content["counts"]["num_unchanged"] = num_documents - content["counts"]["num_written"]
    content["counts"]["num_read"] = num_documents
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder

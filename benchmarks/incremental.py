"""Measures second runs: 1 % changed, killed half-way, a million rows to reuse.

``python -m benchmarks.incremental changed|killed|million --work DIR``. Prints figures; nothing is published.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.records import text_sha256
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.rows.schema import vector_array
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.commit import commit
from beam_jobs.pipeline.write.description import describe_run, new_run
from beam_jobs.pipeline.write.moves import CommitPlan
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.store.manifest import RunManifest
from benchmarks.corpus import read_corpus
from benchmarks.processes import run_timed
from benchmarks.worker import ROOT
from model_bundle.bundle.minilm import NAME as BUNDLE

_SEED = 11
_KILLED_DOCUMENTS = 53_200
_MILLION = 1_000_000


def main(argv: Sequence[str]) -> None:
    """Runs one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incremental")
    parser.add_argument("part", choices=["changed", "killed", "million"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--documents", type=int)
    flags = parser.parse_args(argv)
    shutil.rmtree(flags.work, ignore_errors=True)
    flags.work.mkdir(parents=True)
    parts = {"changed": _changed, "killed": _killed, "million": _million}
    parts[flags.part](flags.work, flags.documents)


def _changed(work: Path, number: int | None) -> None:
    """Changes 1 % of the documents; prints what the second run computes and its share of the time."""
    texts = _texts(number or 7600)
    first = _timed(work, _write(work / "first.jsonl", texts), "first")
    for at in range(0, len(texts), 100):
        texts[at] += " And then it changed."
    second = _timed(work, _write(work / "second.jsonl", texts), "second", "--previous", "latest")
    print(f"first {first:.1f} s, second {second:.1f} s: {second / first:.1%}")
    _print_counts(work)


def _killed(work: Path, number: int | None) -> None:
    """Kills a run when about half of the documents are done, and resumes it."""
    size = number or _KILLED_DOCUMENTS
    source = _write(work / "in.jsonl", _texts(size))
    whole = _timed(work, source, "whole")
    print(f"undisturbed: {whole:.1f} s", flush=True)
    with (work / "killed.log").open("wb") as log:
        job = subprocess.Popen(_command(work, source, "killed"), cwd=ROOT, stdout=log, stderr=log)
        while _estimated_documents(work / "out" / "killed" / "_staging") < size / 2:
            time.sleep(0.5)
        job.send_signal(signal.SIGKILL)
        job.wait()
    second = _timed(work, source, "killed", "--resume")
    counts = _manifest(work, "killed").counts
    share = counts.num_written / counts.num_read
    print(f"killed half-way, then {second:.1f} s; computed after that: {share:.1%} of the documents")
    tables = [_rows(work, name) for name in ("whole", "killed")]
    same = tables[0].drop_columns("embedding").equals(tables[1].drop_columns("embedding"))
    vectors = [np.asarray(table.column("embedding").combine_chunks().flatten()) for table in tables]
    print(
        f"rows are the same: {same}; largest difference of a number: {np.abs(vectors[0] - vectors[1]).max()}"
    )


def _estimated_documents(staging: Path) -> float:
    """Estimates how many documents a job has done, from the files that it closed and the time since then.

    Time alone would not do, because other processes may use the machine.
    """
    closed = [(path.stat().st_mtime, _num_rows(path)) for path in staging.glob("embeddings-*.parquet")]
    closed = sorted((when, rows) for when, rows in closed if rows)
    if len(closed) < 2:
        return 0.0
    rate = sum(rows for _, rows in closed[1:]) / max(closed[-1][0] - closed[0][0], 1e-9)
    return sum(rows for _, rows in closed) + rate * (time.time() - closed[-1][0])


def _num_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError):  # it is still being written
        return 0


def _million(work: Path, number: int | None) -> None:
    """Measures a run after one of a million rows, with 1 % of the documents changed."""
    size = number or _MILLION
    generator = random.Random(_SEED)
    words = sorted({word for text in _texts(2000) for word in text.split()})
    texts = [f"{' '.join(generator.choices(words, k=8))} {at}" for at in range(size)]
    _make_run(work, texts)
    for at in range(0, size, 100):
        texts[at] += " changed"
    source = _write(work / "second.jsonl", texts)
    timed = run_timed(_command(work, source, "second", "--previous", "latest"), work / "second.log")
    print(f"{timed.wall_seconds:.1f} s, at most {timed.peak_memory_bytes / 1e9:.2f} GB")
    _print_counts(work)


def _make_run(work: Path, texts: Sequence[str]) -> None:
    """Writes a run with random vectors in the format of a job."""
    settings = EncodeSettings.resolve(BUNDLE)
    schema = schema_of(settings, pa.schema([]))
    options: WriteOptions = new_run(str(work / "out"), "first")
    folder = work / "out" / "first" / "embeddings"
    random_numbers = np.random.default_rng(_SEED)
    moves = []
    for start in range(0, len(texts), 100_000):
        part = texts[start : start + 100_000]
        shard = Shard(str(folder), "embeddings", schema)
        for begin in range(0, len(part), 4000):
            some = part[begin : begin + 4000]
            ids = [str(start + begin + at) for at in range(len(some))]
            vectors = random_numbers.normal(size=(len(some), *settings.dims)).astype(np.float32)
            columns = {
                "doc_id": pa.array(ids),
                "source": pa.array(["somewhere"] * len(some)),
                "text_sha256": pa.array([text_sha256(text) for text in some]),
                "num_tokens": pa.array([12] * len(some), pa.int32()),
                "was_truncated": pa.array([False] * len(some)),
                "num_unknown_tokens": pa.array([0] * len(some), pa.int32()),
                "embedding": vector_array(vectors, "float32"),
            }
            shard.write(pa.RecordBatch.from_arrays([columns[n] for n in schema.names], schema=schema))
        receipt = shard.close("float32")
        moves.append((receipt, f"embeddings/{Path(receipt.path).name}"))
    commit(CommitPlan(tuple(moves), len(texts), 0, ()), options, describe_run(settings))


def _print_counts(work: Path) -> None:
    counts = _manifest(work, "second").counts
    kinds = f"{counts.num_written} written, {counts.num_reused} reused, {counts.num_dead} dead"
    print(f"{counts.num_read} read, {kinds}; {counts.changes}")


def _texts(number: int) -> list[str]:
    """Returns distinct texts, because equal ones would reuse each other's rows."""
    return [f"{text} {at}" for at, text in enumerate(read_corpus(None).repeated(number).texts)]


def _write(path: Path, texts: Iterable[str]) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        for at, text in enumerate(texts):
            stream.write(json.dumps({"id": str(at), "text": text}) + "\n")
    return path


def _command(work: Path, source: Path, run_id: str, *flags: str) -> list[str]:
    command = [sys.executable, "-m", "beam_jobs.embed", "--bundle", BUNDLE, "--output", str(work / "out")]
    return [*command, "--input", str(source), "--id_column", "id", "--run_id", run_id, *flags]


def _timed(work: Path, source: Path, run_id: str, *flags: str) -> float:
    return run_timed(_command(work, source, run_id, *flags), work / f"{run_id}.log").wall_seconds


def _manifest(work: Path, run_id: str) -> RunManifest:
    path = work / "out" / run_id / "manifest.json"
    return RunManifest.from_bytes(path.read_bytes(), str(path))


def _rows(work: Path, run_id: str) -> pa.Table:
    files = sorted((work / "out" / run_id / "embeddings").glob("*.parquet"))
    return pa.concat_tables(map(pq.read_table, files)).sort_by("doc_id")


if __name__ == "__main__":
    main(sys.argv[1:])

"""A million rows to take over, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.base.records import text_sha256
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.rows.schema import vector_array
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.commit import commit
from beam_jobs.pipeline.write.description import describe_run, new_run
from beam_jobs.pipeline.write.moves import CommitPlan
from beam_jobs.pipeline.write.shard import Shard
from tests.support.models.tiny import DIM
from tests.support.runs.jobs import Run, start_job, write_texts

NUM_TEXTS = 1_000_000
MAX_BYTES = 2_000_000_000


def _write_run(output: Path, bundle: Path, texts: list[str]) -> None:
    """Writes a run of one file, as the job would have written it."""
    settings = EncodeSettings.resolve(str(bundle))
    schema = schema_of(settings, pa.schema([]))
    shard = Shard(str(output / "first" / "embeddings"), "embeddings", schema)
    for start in range(0, len(texts), 10_000):
        some = texts[start : start + 10_000]
        vectors = np.random.default_rng(start).normal(size=(len(some), DIM)).astype(np.float32)
        columns = {
            "doc_id": pa.array([str(start + at) for at in range(len(some))]),
            "source": pa.array(["here"] * len(some)),
            "text_sha256": pa.array(list(map(text_sha256, some))),
            "num_tokens": pa.array([5] * len(some), pa.int32()),
            "was_truncated": pa.array([False] * len(some)),
            "num_unknown_tokens": pa.array([0] * len(some), pa.int32()),
            "embedding": vector_array(vectors, "float32"),
        }
        shard.write(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
    receipt = shard.close("float32")
    name = f"embeddings/{Path(receipt.path).name}"
    options = new_run(str(output), "first")
    commit(CommitPlan(((receipt, name),), len(texts), 0, ()), options, describe_run(settings))


@pytest.mark.slow
def test_a_million_rows_are_taken_over_in_bounded_memory(tmp_path: Path, tiny_bundle: Path) -> None:
    texts = [f"cat {number}" for number in range(NUM_TEXTS)]
    _write_run(tmp_path / "out", tiny_bundle, texts)
    source = write_texts(tmp_path / "in.jsonl", texts)
    flags = ["--input", source, "--id_column", "id", "--previous", "latest", "--run_id", "second"]
    job = start_job(tmp_path / "out", tiny_bundle, *flags)
    stdout, stderr = job.communicate(timeout=280)
    assert job.returncode == 0, stderr
    second = Run(0, tmp_path / "out" / "second", stdout, stderr)
    assert second.manifest.counts.num_reused == NUM_TEXTS
    assert second.manifest.counts.changes == {}
    assert 0 < second.manifest.workers.peak_memory_bytes < MAX_BYTES

"""Rows to staged shards: cut by size and age, each with a receipt that is true, none empty."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.encode.transform import EncodeDocuments
from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA, dead_letter_batch, row_schema, vector_array
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.commit import commit
from beam_jobs.pipeline.write.counts import worker_costs
from beam_jobs.pipeline.write.description import RunDescription
from beam_jobs.pipeline.write.moves import move_shard, plan_commit
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.pipeline.write.transform import RunInputs, WriteRun, _BatchDeadLettersDoFn, _WriteShardsDoFn
from beam_jobs.store.receipt import Receipt

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
SCHEMA = row_schema(["embedding"], "float32", pa.schema([]), keep_text=False, metadata={"made": "here"})
DESCRIPTION = RunDescription(
    started_at="2026-01-01T00:00:00+00:00",
    bundle={},
    settings_digest="",
    precision="float32",
    config={},
    limits=FailureLimits(),
    versions={},
)


def _batch(*ids: str, dim: int = 4) -> pa.RecordBatch:
    number = len(ids)
    vectors = (
        np.random.default_rng([len(ids), *"".join(ids).encode()])
        .normal(size=(number, dim))
        .astype(np.float32)
    )
    arrays = [
        pa.array(ids),
        pa.array(["here"] * number),
        pa.array([f"{i:064}" for i in range(number)]),
        pa.array([3] * number, pa.int32()),
        pa.array([False] * number),
        pa.nulls(number, pa.int32()),
        vector_array(vectors, "float32"),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@pytest.fixture
def options(tmp_path: Path) -> WriteOptions:
    return WriteOptions(output=str(tmp_path / "out"), run_id="run", attempt_id="a" * 32, fail_job=False)


def _run_bundle(dofn: Any, elements: list[Any]) -> list[Any]:
    """Runs one bundle as a runner does, and gives its output."""
    dofn.setup()
    dofn.start_bundle()
    outputs = [output for element in elements for output in dofn.process(element)]
    outputs += dofn.finish_bundle() or ()
    return [output.value if isinstance(output, WindowedValue) else output for output in outputs]


def _writer(options: WriteOptions) -> _WriteShardsDoFn:
    return _WriteShardsDoFn("embeddings", SCHEMA, options, "float32")


def test_a_receipt_says_what_is_in_the_file(options: WriteOptions) -> None:
    batches = [_batch("a", "b"), _batch("c")]
    (receipt,) = _run_bundle(_writer(options), batches)
    data = Path(receipt.path).read_bytes()
    assert (receipt.num_bytes, receipt.sha256) == (len(data), sha256(data).hexdigest())
    assert (receipt.kind, receipt.num_rows, receipt.precision) == ("embeddings", 3, "float32")
    assert receipt.counts["num_documents"] == 3
    assert pq.read_table(receipt.path).equals(pa.Table.from_batches(batches))
    assert pq.read_schema(receipt.path).metadata[b"made"] == b"here"


def test_no_rows_no_shard(options: WriteOptions) -> None:
    assert _run_bundle(_writer(options), [_batch()]) == []
    assert _run_bundle(_writer(options), []) == []
    assert not Path(options.output).exists()


def test_shards_close_when_they_are_full(options: WriteOptions) -> None:
    batches = [_batch(*(f"{i}-{j}" for j in range(100)), dim=64) for i in range(20)]
    receipts = _run_bundle(_writer(replace(options, max_shard_bytes=100_000)), batches)
    assert len(receipts) > 3
    assert all(50_000 < receipt.num_bytes < 130_000 for receipt in receipts[:-1])
    ids = [i for r in receipts for i in pq.read_table(r.path).column("doc_id").to_pylist()]
    assert ids == [f"{i}-{j}" for i in range(20) for j in range(100)]


def test_shards_close_when_they_are_old(options: WriteOptions) -> None:
    writer = _writer(replace(options, checkpoint_seconds=1e-9))
    assert len(_run_bundle(writer, [_batch("a"), _batch("b"), _batch("c")])) == 3


def test_a_writer_holds_a_row_group_and_no_more(options: WriteOptions) -> None:
    shard = Shard(options.output, "embeddings", SCHEMA)
    batch = _batch(*map(str, range(1000)), dim=1024)
    held = []
    for _ in range(30):
        shard.write(batch)
        held.append(shard._pending_bytes)
    receipt = shard.close("float32")
    assert max(held) < 32_000_000 + batch.nbytes
    assert receipt.num_rows == 30_000
    metadata = pq.read_metadata(receipt.path)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    assert len(groups) == 4
    assert max(group.total_byte_size for group in groups) < 32_000_000 + batch.nbytes
    # A viewer fetches the pages of a few rows, and the hub's takes no group above 300 MB.
    columns = [group.column(index) for group in groups for index in range(metadata.num_columns)]
    assert all(column.has_offset_index for column in columns)
    assert {column.path_in_schema for column in columns if not column.has_column_index} == {
        "embedding.list.element"
    }


def test_a_bundle_that_runs_twice_counts_once(options: WriteOptions) -> None:
    """A runner believes one of the two; the commit sees that one's receipts only."""
    first = _run_bundle(_writer(options), [_batch("a", "b")])
    second = _run_bundle(_writer(options), [_batch("a", "b")])
    assert first[0].path != second[0].path
    plan = plan_commit(0, [*second, 2, "all receipts are in"])
    for element in plan.moves:
        move_shard(*element, options)
    manifest = commit(plan, options, DESCRIPTION)
    assert manifest.counts.num_written == 2
    assert len([*Path(options.output).rglob("*.parquet")]) == 1


def test_a_writer_given_up_closes_its_file_and_emits_nothing(options: WriteOptions) -> None:
    writer = _writer(options)
    writer.setup()
    writer.start_bundle()
    assert [*writer.process(_batch("a"))] == []
    writer.teardown()
    assert writer._shard is not None
    assert writer._shard._sink._stream.closed


def test_dead_letters_go_in_batches_of_bounded_size() -> None:
    def letter(text: str) -> DeadLetter:
        return DeadLetter("id", "source", "encode", "model_error", "message", text)

    many = _run_bundle(_BatchDeadLettersDoFn(), [letter("x")] * 2500)
    assert [batch.num_rows for batch in many] == [1000, 1000, 500]
    large = _run_bundle(_BatchDeadLettersDoFn(), [letter("x" * 9_000_000)] * 3)
    assert [batch.num_rows for batch in large] == [2, 1]
    assert many[0].schema.equals(DEAD_LETTER_SCHEMA)


def test_reasons_are_counted_from_what_was_written(options: WriteOptions) -> None:
    shard = Shard(options.output, "dead_letters", DEAD_LETTER_SCHEMA)
    for reasons in (["a", "b", "a"], ["b"]):
        letters = [DeadLetter("id", "source", "read", reason, "") for reason in reasons]
        shard.write(dead_letter_batch(letters))
    counts = shard.close(None).counts
    assert {name: n for name, n in counts.items() if n} == {"reason/a": 2, "reason/b": 2}


def test_large_vectors_make_no_numbers_of_their_own() -> None:
    vectors = np.array([[1.5, -2.0], [65504.0, 6e-8]], np.float32)
    for dtype, wanted in (("float32", vectors), ("float16", vectors.astype(np.float16))):
        array = vector_array(vectors, dtype)
        assert array.type.value_field.name == "element"
        np.testing.assert_array_equal(np.array(array.to_pylist()), wanted.astype(float))


def test_a_run_needs_an_end(options: WriteOptions) -> None:
    pipeline = beam.Pipeline(runner=RUNNER)
    rows = pipeline | "Rows" >> beam.Create([_batch("a")])
    letters, numbers = pipeline | "Letters" >> beam.Create([]), pipeline | "Numbers" >> beam.Create([1])
    endless = pipeline | "Clock" >> PeriodicImpulse(fire_interval=1)
    with pytest.raises(UsageError, match="WriteRun needs bounded input"):
        RunInputs(endless, letters, numbers) | "A" >> WriteRun(options, SCHEMA, DESCRIPTION)
    windowed = rows | beam.WindowInto(FixedWindows(60))
    with pytest.raises(UsageError, match="global window"):
        RunInputs(windowed, letters, numbers) | "B" >> WriteRun(options, SCHEMA, DESCRIPTION)


@pytest.mark.parametrize("root", ["az://box/runs", "s3://bucket", "gs://bucket/a/b"])
def test_a_signed_url_is_no_place_for_runs(root: str) -> None:
    """The signature would be in the manifest."""
    with pytest.raises(UsageError, match="without a query") as caught:
        WriteOptions(output=f"{root}?sv=1&sig=hidden", run_id="run", attempt_id="a" * 32)
    assert root in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_encoding_needs_an_end(tiny_bundle: Path) -> None:
    pipeline = beam.Pipeline(runner=RUNNER)
    endless = pipeline | PeriodicImpulse(fire_interval=1)
    with pytest.raises(UsageError, match="EncodeDocuments needs bounded input"):
        endless | EncodeDocuments(EncodeSettings.resolve(str(tiny_bundle)))


def test_kept_columns_that_nobody_expects_are_an_error_and_not_lost(tiny_bundle: Path) -> None:
    pipeline = beam.Pipeline(runner=RUNNER)
    documents = pipeline | beam.Create([Document("a", "here", "a cat", ("news",))])
    documents | EncodeDocuments(EncodeSettings.resolve(str(tiny_bundle)))
    with pytest.raises(UsageError, match="1 kept column, but the rows have 0"):
        pipeline.run().wait_until_finish()


def test_processes_their_models_and_the_wait_at_the_end_come_from_receipts() -> None:
    def receipt(process: str, ready: int, *ends: float) -> Receipt:
        work = tuple((0, round(end * 1e9), 1, 1) for end in ends)
        return Receipt("embeddings", "p", 1, 2, "s", 3, None, {}, 0, ready, work, process=process)

    files = [
        receipt("a/1", 700, 1.0, 5.0),
        receipt("a/1", 700, 9.5),
        receipt("b/1", 800, 7.0),
        receipt("b/1", 0, 20.0),  # copied rows need no model
        receipt("", 700, 1.0),  # of an earlier attempt
    ]
    costs = worker_costs(files)
    assert (costs.num_processes, costs.num_models, costs.idle_seconds) == (2, 2, 2.5)
    costs = worker_costs([*files, receipt("b/1", 810, 9.25)])  # loaded again
    assert (costs.num_processes, costs.num_models, costs.idle_seconds) == (2, 3, 0.25)
    costs = worker_costs([])
    assert (costs.num_processes, costs.num_models, costs.idle_seconds) == (0, 0, 0.0)


def test_receipts_travel_between_workers() -> None:
    receipt = Receipt("embeddings", "path", 1, 2, "sha", 3, None, {"num_documents": 1})
    coder = beam.coders.registry.get_coder(Receipt)
    assert coder.decode(coder.encode(receipt)) == receipt

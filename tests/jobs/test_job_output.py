"""What a job writes: the vectors of the Encoder loop, in the input's order, with counts that add up."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from beam_jobs.base.records import text_sha256
from model_bundle.inference.encoder import Encoder
from tests.support.models.tiny import LARGE_MARK
from tests.support.runs.jobs import run_job, vectors_of, write_texts
from tests.support.runs.reading import csv_bytes

# What trips up readers, tokenizers and writers.
ODD_TEXTS = [
    "a",
    "the quick brown cat",
    "😀👩‍👩‍👧 🇩🇪",
    "שלום עולם, مرحبا",
    "a\x00b",
    "home " * 100_000,
    "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s>",
    "carriage\rreturn",
    "北京日本",
    "e\u0301 ﬁ Å ½",
    "\ufeffmark",
    "\u200b",
    "\U0010ffff\ufffe",
    "cat, \"dog\"; 'mat'\t|",
    "x" * 500,
]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return Encoder(str(tiny_bundle))


@pytest.fixture(scope="module")
def expected(encoder: Encoder) -> np.ndarray:
    return encoder.encode(ODD_TEXTS)


def _write(folder: Path, name: str, texts: list[str]) -> list[str]:
    """Writes texts in the format of a name; gives the flags to read them with."""
    stem = Path(name).name.split(".", 1)[1]
    kind, _, compression = stem.partition(".")
    if kind == "txt":
        data = "\n".join(texts).encode()
    elif kind == "jsonl":
        data = write_texts(folder / "plain", texts).read_bytes()
        (folder / "plain").unlink()
    elif kind in ("csv", "tsv"):
        rows = [["id", "text"], *([str(i), text] for i, text in enumerate(texts))]
        data = csv_bytes(rows, delimiter="," if kind == "csv" else "\t")
    else:
        table = pa.table({"id": list(map(str, range(len(texts)))), "text": texts})
        pq.write_table(table, folder / name, row_group_size=4)
        return ["--id_column", "id", "--text_column", "text"]
    (folder / name).write_bytes(COMPRESS[f".{compression}" if compression else ""](data))
    return [] if kind == "txt" else ["--id_column", "id", "--text_column", "text"]


_NAMES = ["in.txt", "in.parquet", "in.jsonl.bz2", "in.csv.zst", "in.tsv.gz"]
# Each format is there once, each compression, too.
_AGAIN = ["in.jsonl", "in.csv", "in.tsv", "in.txt.gz"]


@pytest.mark.parametrize("name", [*_NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in _AGAIN)])
def test_every_format_gives_the_vectors_of_the_encoder_loop(
    name: str, tmp_path: Path, tiny_bundle: Path, expected: np.ndarray
) -> None:
    flags = _write(tmp_path, name, ODD_TEXTS)
    run = run_job(tmp_path / "out", tiny_bundle, "--input", tmp_path / name, *flags, "--keep_text")
    assert run.exit_code == 0, run.stderr
    assert run.column("text") == ODD_TEXTS
    assert run.column("text_sha256") == [text_sha256(text) for text in ODD_TEXTS]
    np.testing.assert_allclose(vectors_of(run.rows), expected, atol=1e-5)
    ids = run.column("doc_id")
    assert ids == list(map(str, range(len(ODD_TEXTS)))) or (".txt" in name and len(set(ids)) == len(ids))


def test_whole_files_are_one_document_each(tmp_path: Path, tiny_bundle: Path, encoder: Encoder) -> None:
    texts = ["the cat\nsat\r\non the mat\n", "a dog\rran"]
    for index, text in enumerate(texts):
        (tmp_path / f"{index}.txt").write_bytes(text.encode())
    run = run_job(
        tmp_path / "out", tiny_bundle, "--input", tmp_path / "*.txt", "--whole_files", "--keep_text"
    )
    assert run.exit_code == 0, run.stderr
    assert run.column("text") == texts
    np.testing.assert_allclose(vectors_of(run.rows), encoder.encode(texts), atol=1e-5)


def test_rows_keep_the_order_of_the_input_through_buffers_and_batches(
    tmp_path: Path, tiny_bundle: Path, encoder: Encoder
) -> None:
    texts = [f"{'cat ' * (7 * i % 40)}{i}" for i in range(300)]
    source = write_texts(tmp_path / "in.jsonl", texts)
    flags = ["--input", source, "--id_column", "id", "--buffer_documents", 32, "--max_batch_tokens", 100]
    run = run_job(tmp_path / "out", tiny_bundle, *flags, "--max_shard_bytes", 20_000)
    assert run.exit_code == 0, run.stderr
    assert len(run.files("embeddings")) > 1
    assert all(pq.read_metadata(path).num_rows for path in run.files("embeddings"))
    assert run.column("doc_id") == list(map(str, range(300)))
    np.testing.assert_allclose(vectors_of(run.rows), encoder.encode(texts), atol=1e-5)
    assert run.manifest.counts.num_tokens == sum(run.column("num_tokens"))
    assert run.manifest.counts.num_padded_tokens >= run.manifest.counts.num_tokens


def test_a_second_run_gives_the_same_rows_and_leaves_the_first_alone(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    flags = [
        "--input",
        write_texts(tmp_path / "in.jsonl", ["a cat", "the dog ran", " "]),
        "--id_column",
        "id",
    ]
    first = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="first")
    before = {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()}
    second = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="second")
    assert first.rows.equals(second.rows)
    assert first.dead == second.dead
    assert {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()} == before
    assert json.loads((tmp_path / "out/latest.json").read_bytes())["run_id"] == "second"


def test_counts_add_up_and_the_manifest_lists_the_very_files(tmp_path: Path, tiny_bundle: Path) -> None:
    texts = ["a cat", "", "the dog ran " * 50, " \u3000\n", "mat"]
    source = write_texts(tmp_path / "in.jsonl", texts)
    with source.open("a") as lines:
        lines.write('{"id": "broken", \n{"id": "none"}\n')
    flags = ["--input", source, "--id_column", "id", "--text_column", "text", "--max_dead_fraction", "0.5"]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert run.exit_code == 0, run.stderr
    counts = run.manifest.counts
    assert (counts.num_read, counts.num_written, counts.num_dead, counts.num_blank) == (7, 3, 4, 3)
    assert counts.dead_by_reason == {"blank_text": 3, "broken_json": 1}
    assert (counts.num_truncated, counts.num_lost_tokens) == (1, 150 + 2 - 64)
    listed = {
        run.root / file.path: (file.num_bytes, file.sha256, file.num_rows) for file in run.manifest.files
    }
    found = {
        path: (path.stat().st_size, sha256(path.read_bytes()).hexdigest(), pq.read_metadata(path).num_rows)
        for path in run.root.rglob("*.parquet")
    }
    assert listed == found
    assert {path.name for path in run.root.iterdir()} == {
        "manifest.json",
        "report.html",
        "embeddings",
        "dead_letters",
    }
    assert sorted(run.reasons.values()) == ["blank_text", "blank_text", "blank_text", "broken_json"]


def test_files_say_what_their_vectors_are_and_are_written_for_every_reader(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    run = run_job(tmp_path / "out", tiny_bundle, "--limit", 3)
    (path,) = run.files("embeddings")
    stored = pq.ParquetFile(path)
    metadata = {key.decode(): value.decode() for key, value in stored.schema_arrow.metadata.items()}
    assert metadata["beam_jobs.bundle"] == "tiny"
    assert metadata["beam_jobs.bundle_digest"] == run.manifest.bundle["digest"]
    assert metadata["beam_jobs.dimension"] == "16"
    assert metadata["beam_jobs.layer"] == "2"
    assert metadata["beam_jobs.pooling"] == "mean"
    assert metadata["beam_jobs.precision"] == "float32"
    assert metadata["beam_jobs.run_id"] == "run"
    columns = [stored.metadata.row_group(0).column(i) for i in range(stored.metadata.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    (vectors,) = [column for column in columns if column.path_in_schema.startswith("embedding")]
    assert vectors.path_in_schema == "embedding.list.element"
    assert not any("DICTIONARY" in encoding for encoding in vectors.encodings)


def test_kept_columns_keep_their_types(tmp_path: Path, tiny_bundle: Path) -> None:
    kept = pa.table(
        {
            "price": pa.array([1.5, None], pa.float32()),
            "seen": pa.array([1, 2**62 + 1], pa.timestamp("ns", tz="UTC")),
            "tags": pa.array([["a", None], []], pa.list_(pa.string())),
            "cost": pa.array([Decimal("1.20"), Decimal("-3.45")], pa.decimal128(9, 2)),
            "where": pa.array([{"x": 1}, None], pa.struct([("x", pa.int8())])),
            "raw": pa.array([b"\xff\x00", b""], pa.binary()),
            "topic": pa.array(["news", "sport"]).dictionary_encode(),
        }
    )
    table = kept.append_column("body", pa.array(["a cat", "the dog"]))
    pq.write_table(table, tmp_path / "in.parquet")
    flags = ["--input", tmp_path / "in.parquet", "--text_column", "body"]
    names = ",".join(kept.column_names)
    run = run_job(tmp_path / "out", tiny_bundle, *flags, "--keep_columns", names)
    assert run.exit_code == 0, run.stderr
    plain = kept.set_column(6, "topic", pa.array(["news", "sport"]))
    assert run.rows.select(kept.column_names).cast(plain.schema).equals(plain)


def test_several_layers_give_a_column_each(tmp_path: Path, tiny_bundle: Path) -> None:
    run = run_job(tmp_path / "out", tiny_bundle, "--layer", "-1", "--layer", "0", "--limit", 5, "--keep_text")
    assert run.exit_code == 0, run.stderr
    encoder = Encoder(str(tiny_bundle), layers=("2", "0"))
    for name, vectors in encoder.encode_outputs(run.column("text")).items():
        column = "embedding_" + name.removeprefix("states_")
        np.testing.assert_allclose(vectors_of(run.rows, column), vectors, atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", pytest.param("pooler", marks=pytest.mark.slow)])
def test_pooling_is_that_of_the_encoder(pooling: str, tmp_path: Path, tiny_bundle: Path) -> None:
    run = run_job(tmp_path / "out", tiny_bundle, "--pooling", pooling, "--limit", 5, "--keep_text")
    expected = Encoder(str(tiny_bundle), pooling=pooling).encode(run.column("text"))
    np.testing.assert_allclose(vectors_of(run.rows), expected, atol=1e-5)
    assert np.ptp(np.linalg.norm(expected, axis=1)) > 0.01  # the bundle normalises its own pooling alone


def test_vectors_can_be_stored_in_half_the_size(tmp_path: Path, tiny_bundle: Path) -> None:
    half = run_job(tmp_path / "out", tiny_bundle, "--vector_dtype", "float16", "--limit", 20, run_id="half")
    whole = run_job(tmp_path / "out", tiny_bundle, "--limit", 20, run_id="whole")
    assert half.rows.schema.field("embedding").type.value_type == pa.float16()
    np.testing.assert_array_equal(vectors_of(half.rows), vectors_of(whole.rows).astype(np.float16))


def test_what_float16_cannot_hold_is_a_dead_letter(tmp_path: Path, text_bundle: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", LARGE_MARK, "dog"])
    flags = ["--input", source, "--id_column", "id", "--vector_dtype", "float16"]
    run = run_job(tmp_path / "out", text_bundle, *flags, "--max_dead_fraction", 0.5)
    assert run.exit_code == 0, run.stderr
    assert run.reasons == {"1": "float16_overflow"}
    assert {key: value.tolist() for key, value in run.vectors.items()} == {"0": [5, 1], "2": [3, 1]}


def test_prompts_and_limits_reach_the_model(tmp_path: Path, tiny_bundle: Path) -> None:
    flags = ["--prompt", "query", "--max_tokens", 6, "--limit", 10, "--keep_text"]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    encoder = Encoder(str(tiny_bundle), prompt="query", max_tokens=6)
    np.testing.assert_allclose(vectors_of(run.rows), encoder.encode(run.column("text")), atol=1e-5)
    assert max(run.column("num_tokens")) == 6
    assert not any(text.startswith("time of") for text in run.column("text"))


def test_limit_reads_the_first_documents_in_input_order(tmp_path: Path, tiny_bundle: Path) -> None:
    for index in range(3):
        write_texts(tmp_path / f"{index}.jsonl", [f"cat {index}", "", "dog"])
    run = run_job(tmp_path / "out", tiny_bundle, "--input", tmp_path / "*.jsonl", "--limit", 5, "--keep_text")
    assert run.exit_code == 0, run.stderr
    assert run.column("text") == ["cat 0", "dog", "cat 1"]
    assert run.manifest.counts.num_read == 5


def test_a_run_says_what_its_workers_needed(tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", "a dog"])
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--text_column", "text")
    workers = run.manifest.workers
    assert 100_000_000 < workers.peak_memory_bytes < 20_000_000_000  # TensorFlow alone takes the former
    assert workers.ready_seconds > 0
    assert "peak of one worker" in run.stdout
    assert "1 input file, " in run.stdout + run.stderr

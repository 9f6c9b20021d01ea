"""``runs RUN validate``: every fault of a run is found, and a good one is called good."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.base.records import DeadLetter
from beam_jobs.runs.check_rows import find_duplicates
from beam_jobs.store.finished_run import find_run
from tests.beam_jobs.runs.test_runs import runs
from tests.support.runs.jobs import run_classify, run_job, write_texts
from tests.support.runs.made_runs import make_run, rewrite_manifest

VECTORS = np.eye(5, 4, dtype=np.float32) + np.float32(0.5)
SHARDS: list[dict[str, Any]] = [
    {"ids": ["a", "b", "c"], "vectors": VECTORS[:3]},
    {"ids": ["d", "e"], "vectors": VECTORS[3:]},
]
DEAD = [
    DeadLetter("x", "in", "prepare", "blank_text", "blank"),
    DeadLetter("y", "in", "read", "broken_json", "no"),
]
FIRST = "embeddings/embeddings-00000-of-00002.parquet"


def validate(path: Path) -> tuple[int, str]:
    """Returns the exit code and what is printed."""
    code, stdout, stderr = runs(path, "validate")
    assert not stderr, stderr
    return code, stdout


def test_good_runs_are_valid(tiny_bundle: Path, build_head: Callable[[str], Any], tmp_path: Path) -> None:
    make_run(tmp_path / "made", "run", SHARDS, dead=DEAD)
    source = write_texts(tmp_path / "in.jsonl", ["the cat sat", "a dog", "", "time"])
    flags = ("--input", source, "--id_column", "id")
    assert run_job(tmp_path / "words", tiny_bundle, *flags, "--rows", "word").exit_code == 0
    assert run_job(tmp_path / "half", tiny_bundle, *flags, "--vector_dtype", "float16").exit_code == 0
    head = build_head("tiny_distilbert_mood").path
    assert run_classify(tmp_path / "classes", head, *flags, "--keep_logits").exit_code == 0
    for name in ("made", "words", "half", "classes"):
        code, stdout = validate(tmp_path / name)
        assert (code, stdout.splitlines()[-1]) == (0, "valid"), stdout


def test_changed_missing_and_added_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS, dead=DEAD)
    data = (run / FIRST).read_bytes()
    (run / FIRST).write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    (run / "dead_letters" / "dead_letters-00000-of-00001.parquet").unlink()
    (run / "embeddings" / "more.parquet").write_bytes(data)
    code, stdout = validate(run)
    assert code == 1
    assert f"{FIRST}: has the sha256" in stdout
    assert "dead_letters-00000-of-00001.parquet: missing" in stdout
    assert "embeddings/more.parquet: not a file of this run" in stdout
    (run / FIRST).write_bytes(data[:-1])
    assert f"{FIRST}: has {len(data) - 1:,} bytes, the manifest says {len(data):,}" in validate(run)[1]


def rewritten(run: Path, name: str, table: pa.Table) -> None:
    """Puts another table in a file's place, and tells the manifest its bytes: only the content is wrong."""
    pq.write_table(table, run / name)
    manifest = json.loads((run / "manifest.json").read_text())
    data = (run / name).read_bytes()
    for file in manifest["files"]:
        if file["path"] == name:
            file |= {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite_manifest(run, files=manifest["files"])


def with_vectors(run: Path, vectors: Any, metadata: dict[str, str] | None = None) -> None:
    table = pq.read_table(run / FIRST)
    column = pa.array(vectors, table.schema.field("embedding").type)
    index = table.schema.get_field_index("embedding")
    table = table.set_column(index, table.schema.field(index), column)
    if metadata:
        table = table.replace_schema_metadata(
            table.schema.metadata | {key.encode(): value for key, value in metadata.items()}
        )
    rewritten(run, FIRST, table)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (
            [[1, 2, 3, 4], [1, np.nan, 3, 4], [np.inf, 1, 1, 1]],
            "NaN or infinity in 2 rows, such as b, c",
        ),
        ([[1, 2, 3, 4], [0, 0, 0, 0], [1, 1, 1, 1]], "has only zeros in 1 row, such as b"),
        ([[1, 2, 3, 4], [1, 2, 3], [1, 1, 1, 1]], "Expected 3 vectors of dimension 4, found 11"),
    ],
)
def test_numbers_that_cannot_be_vectors(tmp_path: Path, vectors: Any, message: str) -> None:
    run = make_run(tmp_path, "run", SHARDS)
    with_vectors(run, vectors)
    code, stdout = validate(run)
    assert code == 1
    assert message in stdout


def test_lengths_are_checked_where_the_file_promises_them(tmp_path: Path) -> None:
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    shards = [{"ids": ["a", "b", "c"], "vectors": unit[:3]}, {"ids": ["d", "e"], "vectors": unit[3:]}]
    normalized = {"beam_jobs.normalized": "true"}
    run = make_run(tmp_path, "run", shards, metadata=normalized)
    assert validate(run)[0] == 0
    with_vectors(run, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]])
    assert "does not have length 1 in 1 row, such as b" in validate(run)[1]


def test_files_that_say_other_things_than_the_manifest(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS)
    with_vectors(run, [[1, 2, 3, 4]] * 3, {"beam_jobs.run_id": "another"})
    assert "says run_id another, the manifest says run" in validate(run)[1]
    rewritten(run, FIRST, pq.read_table(run / FIRST).slice(1))
    assert "has 2 rows, the manifest says 3" in validate(run)[1]
    rewritten(run, FIRST, pq.read_table(run / FIRST).append_column("more", pa.array([1, 2])))
    assert "its columns differ from those of" in validate(run)[1]


def test_counts_and_settings_that_do_not_add_up(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", SHARDS, dead=DEAD)
    counts = json.loads((run / "manifest.json").read_text())["counts"]
    rewrite_manifest(run, counts=counts | {"num_read": 9, "num_dead": 3}, settings={"pooling": "max"})
    stdout = validate(run)[1]
    assert "9 documents read, 8 written, reused, unchanged or dead" in stdout
    assert "2 dead letters, the manifest counts 3" in stdout
    assert "the settings do not match" in stdout
    rewrite_manifest(run, counts=counts | {"num_read": 8, "num_written": 6})
    assert "rows of 5 documents, the manifest counts 6" in validate(run)[1]


def test_ids_that_are_there_twice(tmp_path: Path) -> None:
    shards = [SHARDS[0], {"ids": ["a", "e"], "vectors": VECTORS[3:]}]
    run = make_run(tmp_path, "run", shards, dead=[*DEAD, DeadLetter("e", "in", "encode", "no_words", "m")])
    code, stdout = validate(run)
    assert code == 1
    assert "ids found more than once: 1, for example a." in stdout
    assert "documents with both rows and a dead letter: 1" in stdout


def test_windows_and_words_of_one_document_are_no_duplicates(tmp_path: Path) -> None:
    shard = {"ids": ["a", "a", "b"], "vectors": VECTORS[:3], "window_index": [0, 1, 0]}
    assert validate(make_run(tmp_path, "run", [shard]))[0] == 0
    found = find_duplicates(find_run(str(make_run(tmp_path, "two", [shard | {"window_index": [1, 1, 0]}]))))
    assert (found.num_duplicates, found.examples, found.num_documents) == (1, ("a",), 2)
    twice = shard | {"ids": ["a", "a", "a"], "window_index": [0, 0, 0]}
    both = twice | {"window_index": [0, 1, 1]}
    found = find_duplicates(find_run(str(make_run(tmp_path, "ids", [twice, both]))))
    assert (found.num_duplicates, found.examples) == (1, ("a",))  # one id, however many of its windows


@pytest.mark.slow
def test_ids_are_counted_in_bounded_memory(tmp_path: Path) -> None:
    """Four million ids of 64 characters with less memory than they need: DuckDB goes to the disk."""
    num_rows = 4_000_000
    ids = [hashlib.sha256(str(number % (num_rows - 1)).encode()).hexdigest() for number in range(num_rows)]
    shards = [{"ids": ids, "vectors": np.ones((num_rows, 1), np.float32), "group": 100_000}]
    run = find_run(str(make_run(tmp_path, "run", shards)))
    found = find_duplicates(run, memory_limit="200MB")
    assert (found.num_duplicates, found.num_documents) == (1, num_rows - 1)

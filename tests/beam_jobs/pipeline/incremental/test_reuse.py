"""A run that takes rows over: the rows of a run without, and only what is new is computed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import (
    Run,
    run_classify,
    run_job,
    start_job,
    vectors_of,
    write_jsonl,
    write_texts,
)

TEXTS = [f"the cat number {number} sat on a mat" for number in range(50)]


def run(tmp_path: Path, bundle: Path, texts: Sequence[str], *flags: Any, run_id: str = "run") -> Run:
    """Runs a job over texts whose ids are their positions."""
    source = write_texts(tmp_path / f"{run_id}.jsonl", texts)
    done = run_job(tmp_path / "out", bundle, "--input", source, "--id_column", "id", *flags, run_id=run_id)
    assert done.exit_code in (0, 3), done.stderr
    return done


def counts(done: Run) -> tuple[int, int, int, int]:
    """Returns read, written, reused and dead."""
    found = done.manifest.counts
    return found.num_read, found.num_written, found.num_reused, found.num_dead


def sorted_rows(done: Run) -> pa.Table:
    return done.rows.drop_columns("source").sort_by("doc_id")


def test_what_has_not_changed_is_taken_over_and_the_rest_is_computed(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    first = run(tmp_path, tiny_bundle, TEXTS, run_id="first")
    changed = [*TEXTS[:20], "another cat", *TEXTS[21:], "a new dog"]
    second = run(tmp_path, tiny_bundle, changed, "--previous", first.root, run_id="second")
    assert counts(second) == (51, 2, 49, 0)
    assert second.manifest.previous is not None
    assert second.manifest.previous.run_id == "first"
    assert "51 read = 2 written + 49 reused + 0 dead" in second.stdout
    whole = run(tmp_path, tiny_bundle, changed, run_id="whole")
    assert sorted_rows(second).schema.equals(sorted_rows(whole).schema)
    expected, found = sorted_rows(whole), sorted_rows(second)
    assert found.drop_columns("embedding").equals(expected.drop_columns("embedding"))
    np.testing.assert_allclose(vectors_of(found), vectors_of(expected), atol=1e-5)
    # Those that were taken over are the very ones.
    taken = [str(at) for at in range(50) if at != 20]
    for doc_id in taken:
        np.testing.assert_array_equal(second.vectors[doc_id], first.vectors[doc_id])


def test_ids_and_columns_come_from_the_new_input(tmp_path: Path, tiny_bundle: Path) -> None:
    for name, offset in (("first", 0), ("second", 100)):
        records = [
            {"text": text, "id": at + offset, "topic": f"{name} {at}"} for at, text in enumerate(TEXTS)
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", records)
    flags = ["--id_column", "id", "--keep_columns", "topic", "--keep_text", "--previous", "latest"]
    output = tmp_path / "out"
    run_job(output, tiny_bundle, "--input", tmp_path / "first.jsonl", "--id_column", "id", run_id="first")
    second = run_job(
        output,
        tiny_bundle,
        "--input",
        tmp_path / "second.jsonl",
        *flags,
        "--previous",
        "latest",
        run_id="second",
    )
    assert second.exit_code == 0, second.stderr
    assert counts(second) == (50, 0, 50, 0)
    assert second.column("doc_id") == [str(at + 100) for at in range(50)]
    assert second.column("topic") == [f"second {at}" for at in range(50)]
    assert second.column("text") == TEXTS
    assert set(second.column("source")) == {str(tmp_path / "second.jsonl")}
    shutil.rmtree(output / "first")  # nothing points there
    assert len({tuple(vector) for vector in second.vectors.values()}) == 50


def test_a_run_in_which_nothing_changed_loads_no_model(tmp_path: Path, tiny_bundle: Path) -> None:
    """Its graph is gone, and TensorFlow cannot be imported: still every row is there."""
    first = run(tmp_path, tiny_bundle, TEXTS, run_id="first")
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "tensorflow.py").write_text("raise ImportError('no TensorFlow here')")
    source = write_texts(tmp_path / "in.jsonl", TEXTS)
    flags = ["--input", source, "--id_column", "id", "--previous", "latest", "--run_id", "second"]
    job = start_job(tmp_path / "out", tiny_bundle, *flags, PYTHONPATH=str(tmp_path / "hide"))
    stdout, stderr = job.communicate(timeout=150)
    assert job.returncode == 0, stderr
    second = Run(0, tmp_path / "out" / "second", stdout, stderr)
    assert counts(second) == (50, 0, 50, 0)
    assert second.manifest.workers.ready_seconds == 0
    assert second.manifest.counts.model_seconds == 0
    np.testing.assert_array_equal(vectors_of(second.rows), vectors_of(first.rows))


def test_dead_letters_are_tried_again(tmp_path: Path, tiny_bundle: Path) -> None:
    texts = ["a cat", f"a {FAILING_WORD}", " ", "a dog"]
    flags = ["--max_dead_fraction", 0.5]
    first = run(tmp_path, tiny_bundle, texts, *flags, run_id="first")
    second = run(tmp_path, tiny_bundle, texts, *flags, "--previous", first.root, run_id="second")
    assert counts(second) == (4, 0, 2, 2)
    assert second.reasons == first.reasons == {"1": "model_error", "2": "blank_text"}


def test_equal_texts_and_equal_ids_lose_no_row(tmp_path: Path, tiny_bundle: Path) -> None:
    records = [{"id": "same", "text": text} for text in ["a cat", "a dog", "a cat", "a cat"]]
    write_jsonl(tmp_path / "in.jsonl", records)
    flags = ["--input", tmp_path / "in.jsonl", "--id_column", "id"]
    first = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="first")
    second = run_job(tmp_path / "out", tiny_bundle, *flags, "--previous", "latest", run_id="second")
    assert counts(second) == (4, 0, 4, 0)
    assert sorted(map(tuple, vectors_of(second.rows))) == sorted(map(tuple, vectors_of(first.rows)))


@pytest.mark.parametrize("rows", ["word"])
def test_all_rows_of_a_document_are_taken_over_together(rows: str, tmp_path: Path, tiny_bundle: Path) -> None:
    texts = [f"{'cat ' * (number % 7 + 1)}{number}" for number in range(40)] + ["home " * 100]
    first = run(tmp_path, tiny_bundle, texts, "--rows", rows, run_id="first")
    mixed = [*texts[::-1], "something new", texts[3]]
    flags = ["--rows", rows, "--previous", "latest", "--max_shard_bytes", 20_000]
    second = run(tmp_path, tiny_bundle, mixed, *flags, run_id="second")
    assert counts(second) == (43, 1, 42, 0)
    assert second.manifest.counts.num_truncated == first.manifest.counts.num_truncated == 1
    whole = run(tmp_path, tiny_bundle, mixed, "--rows", rows, run_id="whole")
    keys = [("doc_id", "ascending"), ("word_index", "ascending")]
    found, expected = (done.rows.drop_columns("source").sort_by(keys) for done in (second, whole))
    assert found.drop_columns("embedding").equals(expected.drop_columns("embedding"))
    np.testing.assert_allclose(vectors_of(found), vectors_of(expected), atol=1e-5)


def test_classes_are_taken_over(tmp_path: Path, build_head: Any) -> None:
    bundle = build_head("tiny_roberta_topics").path
    source = write_texts(tmp_path / "in.jsonl", TEXTS)
    flags = ["--input", source, "--id_column", "id"]
    first = run_classify(tmp_path / "out", bundle, *flags, run_id="first")
    second = run_classify(tmp_path / "out", bundle, *flags, "--previous", "latest", run_id="second")
    assert counts(second) == (50, 0, 50, 0)
    assert sorted_rows(second).equals(sorted_rows(first))


def test_latest_is_no_error_in_the_first_night(tmp_path: Path, tiny_bundle: Path) -> None:
    done = run(tmp_path, tiny_bundle, TEXTS, "--previous", "latest")
    assert counts(done) == (50, 50, 0, 0)
    assert "no finished run below" in done.stdout
    assert done.manifest.previous is None


def test_other_settings(tmp_path: Path, tiny_bundle: Path, text_bundle: Path) -> None:
    """A run that was named must fit; the latest one may not, and then everything is computed."""
    first = run(tmp_path, tiny_bundle, TEXTS, run_id="first")
    for bundle, flags, why in (
        (tiny_bundle, ["--pooling", "max"], "--pooling was None and is 'max'"),
        (text_bundle, [], "its bundle is tiny"),
    ):
        source = ["--input", tmp_path / "first.jsonl", "--id_column", "id"]
        named = run_job(tmp_path / "out", bundle, *source, *flags, "--previous", first.root, run_id="named")
        assert named.exit_code == 2
        assert why in named.stderr
        assert not named.root.exists()
        (tmp_path / "out" / "latest.json").write_text(json.dumps({"run_id": "first"}))
        again = run(
            tmp_path, bundle, TEXTS, *flags, "--previous", tmp_path / "out", run_id=f"again{len(flags)}"
        )
        assert counts(again) == (50, 50, 0, 0)
        assert why in again.stdout


def test_what_cannot_be_taken_over_is_said_before_work(tmp_path: Path, tiny_bundle: Path) -> None:
    first = run(tmp_path, tiny_bundle, TEXTS, run_id="first")
    source = ["--input", tmp_path / "first.jsonl", "--id_column", "id"]

    def error(previous: Any) -> str:
        done = run_job(tmp_path / "out", tiny_bundle, *source, "--previous", previous, run_id="second")
        assert done.exit_code == 2
        assert not (tmp_path / "out" / "second").exists()
        return done.stderr

    assert "neither a run nor a root" in error(tmp_path / "none")
    (first.root / "manifest.json").rename(first.root / "manifest.failed.json")
    assert "is not finished" in error("first")
    assert "first, which no longer exists" not in error("latest")
    (first.root / "manifest.failed.json").rename(first.root / "manifest.json")
    (file,) = first.files("embeddings")
    file.write_bytes(file.read_bytes()[:-1])
    assert "was changed after it was written" in error("first")
    shutil.rmtree(first.root)
    assert "which no longer exists" in error("latest")


@pytest.mark.parametrize("emit", [pytest.param("all", marks=pytest.mark.slow), "changes"])
def test_rows_of_a_damaged_file_are_not_copied(emit: str, tmp_path: Path, tiny_bundle: Path) -> None:
    """Its size is as before, so only its digest tells."""
    first = run(tmp_path, tiny_bundle, ["the cat", "the dog"], run_id="first")
    damage(first)
    source = write_texts(tmp_path / "in.jsonl", ["the cat", "a mat"])
    flags = ["--input", source, "--id_column", "id", "--previous", "first", "--emit", emit]
    again = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="second")
    assert again.exit_code == 1
    assert "should have the sha256" in again.stderr
    assert not (tmp_path / "out" / "second" / "manifest.json").exists()


def damage(done: Run) -> None:
    """Changes one byte of a run's rows."""
    (path,) = done.files("embeddings")
    data = bytearray(path.read_bytes())
    data[400] ^= 1
    path.write_bytes(data)

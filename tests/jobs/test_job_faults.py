"""What goes wrong in a job costs just what it must: one document, one file, or the run, and says so."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from model_bundle.inference.encoder import Encoder
from tests.support.models.tiny import EXPLODING_MARK, FAILING_WORD, NAN_WORD
from tests.support.runs.jobs import Run, run_job, start_job, vectors_of, write_jsonl, write_texts

POISON = {13: FAILING_WORD, 77: NAN_WORD, 78: FAILING_WORD, 199: "the cat nanword sat"}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> tuple[Run, list[str]]:
    """A job over 200 texts, four of which the model cannot take."""
    folder = tmp_path_factory.mktemp("poisoned")
    texts = [POISON.get(i, f"the {'dog ' * (i % 9)}{i}") for i in range(200)]
    source = write_texts(folder / "in.jsonl", texts)
    flags = ["--input", source, "--id_column", "id", "--max_dead_fraction", 0.02, "--buffer_documents", 90]
    return run_job(folder / "out", tiny_bundle, *flags), texts


def test_a_text_the_model_fails_on_is_found_and_its_neighbours_are_unharmed(
    poisoned: tuple[Run, list[str]], tiny_bundle: Path
) -> None:
    run, texts = poisoned
    assert run.exit_code == 0, run.stderr
    assert run.reasons == {"13": "model_error", "77": "non_finite", "78": "model_error", "199": "non_finite"}
    healthy = [i for i in range(200) if i not in POISON]
    assert run.column("doc_id") == [str(i) for i in healthy]
    expected = Encoder(str(tiny_bundle)).encode([texts[i] for i in healthy])
    np.testing.assert_allclose(np.array(list(run.vectors.values())), expected, atol=1e-5)


def test_a_dead_letter_holds_the_text_and_what_happened(poisoned: tuple[Run, list[str]]) -> None:
    letter = next(letter for letter in poisoned[0].dead if letter["doc_id"] == "13")
    assert letter["stage"] == "encode"
    assert letter["text"] == FAILING_WORD
    assert letter["num_bytes"] == len(FAILING_WORD)
    assert letter["source"].endswith("in.jsonl")
    assert "is not in [0, " in letter["message"]  # TensorFlow's own words


def test_a_model_that_fails_on_everything_fails_the_run_but_not_the_job(
    tmp_path: Path, text_bundle: Path
) -> None:
    source = write_texts(tmp_path / "in.jsonl", [f"{EXPLODING_MARK} {i}" for i in range(9)])
    run = run_job(tmp_path / "out", text_bundle, "--input", source, "--id_column", "id")
    assert run.exit_code == 3
    assert run.manifest.failure_kind == "too_many_dead"
    assert run.manifest.counts.dead_by_reason == {"model_error": 9}
    assert not run.files("embeddings")


def test_too_many_dead_keeps_everything_but_is_no_run(tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", FAILING_WORD, "a dog"])
    flags = ["--input", source, "--id_column", "id"]
    failed = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert failed.exit_code == 3
    assert "1 of 3 documents became dead letters (1 model_error)" in failed.stderr
    assert "--max_dead_fraction" in failed.stderr
    assert "Run FAILED" in failed.stdout
    assert (failed.root / "manifest.failed.json").exists()
    assert not (failed.root / "manifest.json").exists()
    assert not (tmp_path / "out/latest.json").exists()
    assert failed.column("doc_id") == ["0", "2"]
    assert failed.reasons == {"1": "model_error"}

    again = run_job(tmp_path / "out", tiny_bundle, *flags, "--max_dead_fraction", 0.34)
    assert again.exit_code == 0, again.stderr
    assert {path.name for path in again.root.iterdir()} == {
        "manifest.json",
        "report.html",
        "embeddings",
        "dead_letters",
    }
    assert again.manifest.counts.num_reused == 2


@pytest.mark.parametrize(("flags", "exit_code"), [([], 0), (["--fail_on_blank"], 3)])
def test_blank_texts_count_against_the_limit_only_when_asked(
    flags: list[str], exit_code: int, tmp_path: Path, tiny_bundle: Path
) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", "", "\t \n", "\u2003"])
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--id_column", "id", *flags)
    assert run.exit_code == exit_code
    assert run.manifest.counts.num_blank == 3
    assert run.reasons == dict.fromkeys("123", "blank_text")


@pytest.mark.parametrize(("flags", "exit_code"), [([], 3), (["--allow_empty_input"], 0)])
def test_no_documents_is_an_error_unless_asked_for(
    flags: list[str], exit_code: int, tmp_path: Path, tiny_bundle: Path
) -> None:
    (tmp_path / "in.txt").write_bytes(b"")
    run = run_job(tmp_path / "out", tiny_bundle, "--input", tmp_path / "in.txt", *flags)
    assert run.exit_code == exit_code, run.stderr
    assert run.manifest.files == ()
    assert run.manifest.counts.num_read == 0
    assert ("--allow_empty_input" in run.stderr) == (exit_code == 3)


def test_a_file_cut_short_is_named_and_the_others_are_read(tmp_path: Path, tiny_bundle: Path) -> None:
    whole = gzip.compress("\n".join(f"cat {os.urandom(4).hex()}" for _ in range(20_000)).encode())
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "good.txt").write_text("the dog\n")
    flags = ["--input", tmp_path / "*.txt*", "--max_tokens", 3, "--buffer_documents", 20_000]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert run.exit_code == 3
    assert "1 file could not be read to the end" in run.stderr
    (dead,) = run.manifest.dead_files
    assert dead.source.endswith("cut.txt.gz")
    assert dead.num_documents + 1 == run.manifest.counts.num_read == run.rows.num_rows
    assert dead.num_documents > 1000


def test_dead_files_can_be_allowed(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"cat\n" * 9)[:-4])
    (tmp_path / "good.txt").write_text("the dog\n")
    flags = ["--input", tmp_path / "*.txt*", "--max_dead_files", 1]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert run.exit_code == 0, run.stderr
    assert run.manifest.counts.num_dead_files == 1
    assert "cut.txt.gz" in run.stdout


def test_a_document_too_large_to_read_is_a_dead_letter_with_its_digest(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["a cat", "dog " * 1000, "a mat"])
    flags = ["--input", source, "--id_column", "id", "--max_document_bytes", 2000, "--max_dead_fraction", 1]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert run.exit_code == 0, run.stderr
    (letter,) = run.dead
    assert (letter["stage"], letter["reason"]) == ("read", "too_large")
    assert len(letter["text"]) == 1000
    assert len(letter["text_sha256"]) == 64
    assert letter["num_bytes"] > 4000


def test_half_of_a_surrogate_pair_is_a_dead_letter(tmp_path: Path, tiny_bundle: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a \ud800 cat"}, {"text": "a dog"}])
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--max_dead_fraction", 0.5)
    assert run.exit_code == 0, run.stderr
    assert list(run.reasons.values()) == ["invalid_unicode"]
    assert run.rows.num_rows == 1


@pytest.mark.slow
def test_memory_that_runs_out_halves_the_batches_and_every_text_gets_its_vector(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    """The real thing: TensorFlow may allocate 40 MB, and the batch that is asked for needs over 80."""
    texts = [f"{'the cat sat on the mat and ran home ' * 8}{i}" for i in range(2000)]
    source = write_texts(tmp_path / "in.jsonl", texts)
    flags = ["--input", source, "--id_column", "id", "--run_id", "run", "--buffer_documents", 2000]
    batches = ["--max_batch_tokens", 2000 * 64]
    job = start_job(tmp_path / "out", tiny_bundle, *flags, *batches, TF_MKL_ALLOC_MAX_BYTES="40000000")
    stdout, stderr = job.communicate(timeout=200)
    assert job.returncode == 0, stderr
    run = Run(job.returncode, tmp_path / "out/run", stdout, stderr)
    assert run.column("doc_id") == list(map(str, range(2000)))
    few = Encoder(str(tiny_bundle)).encode(texts[::500])
    np.testing.assert_allclose(vectors_of(run.rows)[::500], few, atol=1e-5)

"""Wrong use ends before any work: exit code 2, one message that says what and what to do, nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs.jobs import Run, run_job, write_jsonl, write_texts

GOOD = [{"id": "1", "text": "a cat", "topic": "x"}, {"id": "2", "text": "a dog", "topic": "y"}]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "in.jsonl", GOOD)


def _refused(run: Run, *said: str) -> None:
    assert run.exit_code == 2, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr
    for part in said:
        assert part in run.stderr
    assert not run.root.exists()
    assert run.stdout == ""


WRONG: list[tuple[list[Any], list[str]]] = [
    (["--text_column", "txet"], ["--text_column 'txet'", "Did you mean 'text'?"]),
    (["--id_column", "ident"], ["--id_column 'ident' is not a column"]),
    (["--keep_columns", "topik"], ["--keep_columns 'topik'", "'topic'"]),
    (["--keep_columns", "topic,topic"], ["--keep_columns names ['topic'] more than once"]),
    (["--keep_columns", "text", "--keep_text"], ["'text'", "--rename_columns text=NEW"]),
    (["--keep_text", "--no_text"], ["--keep_text", "--no_text", "leave one of them out"]),
    (["--layer", "7"], ["--layer 7", "0, 1, 2 (-1 is the last)"]),
    (["--layer", "0", "--pooling", "pooler"], ["--pooling pooler", "leave --layer out"]),
    (["--pooling", "median"], ["--pooling", "'mean'"]),
    (["--prompt", "quary"], ["--prompt quary", "query"]),
    (["--prompt", "query", "--prompt_text", "x"], ["--prompt", "--prompt_text"]),
    (["--max_tokens", "100000"], ["--max_tokens 100000", "at most 64"]),
    (["--max_tokens", "two"], ["--max_tokens", "invalid int value"]),
    (["--max_dead_fraction", "1.5"], ["--max_dead_fraction is a fraction from 0 to 1, not 1.5"]),
    (["--max_dead_fraction", "nan"], ["--max_dead_fraction is a fraction"]),
    (["--max_dead_files", "-1"], ["--max_dead_files must be at least 0"]),
    (["--limit", "0"], ["--limit must be at least 1", "leave it out"]),
    (["--max_shard_bytes", "0"], ["--max_shard_bytes must be at least 1"]),
    (["--checkpoint_seconds", "nan"], ["--checkpoint_seconds must be above 0"]),
    (["--max_batch_tokens", "0"], ["--max_batch_tokens must be at least 1"]),
    (["--buffer_documents", "1000000000"], ["--buffer_documents", "at most"]),
    (["--num_threads", "0"], ["--num_threads must be at least 1"]),
    (["--vector_dtype", "float8"], ["--vector_dtype", "'float16'"]),
    (["--whole_files"], ["--whole_files applies only to .txt files"]),
    (["--delimiter", ";"], ["--delimiter applies only to .csv files"]),
    (["--encoding", "utf-9"], ["utf-9"]),
    (["--max_tokenz", "128"], ["--max_tokenz is neither a flag of this job nor of Beam", "--max_tokens?"]),
    (["--direct_num_worker=2"], ["--direct_num_worker is neither", "--direct_num_workers?"]),
    (["--direct_num_workers=two"], ["A flag of Apache Beam", "--direct_num_workers"]),
    (["--bunlde=x"], ["--bunlde is neither", "--bundle?"]),
]


@pytest.mark.parametrize(("flags", "said"), WRONG, ids=[" ".join(map(str, flags)) for flags, _ in WRONG])
def test_flags_that_cannot_be_meant(
    flags: list[Any], said: list[str], source: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    _refused(run_job(tmp_path / "out", tiny_bundle, "--input", source, *flags), *said)


def test_a_word_that_belongs_to_no_flag(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    run = run_job(tmp_path / "out", tiny_bundle, "--keep_text", source)
    _refused(run, "is not a flag", "Quote patterns")


@pytest.mark.parametrize("pattern", ["none/*.txt", "none.jsonl", "in.pdf"])
def test_no_file_matches(pattern: str, tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "in.pdf").write_bytes(b"%PDF")
    _refused(run_job(tmp_path / "out", tiny_bundle, "--input", tmp_path / pattern), pattern)


def test_flags_about_files_need_files(tmp_path: Path, tiny_bundle: Path) -> None:
    for flag, *value in (
        ["--id_column", "x"],
        ["--text_column", "x"],
        ["--whole_files"],
        ["--no_csv_quotes"],
    ):
        _refused(run_job(tmp_path / "out", tiny_bundle, flag, *value), f"{flag} needs --input")


def test_a_damaged_bundle(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, damaged)
    tokenizer = damaged / "tokenizer/tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"cat", b"rat", 1))
    _refused(run_job(tmp_path / "out", damaged, "--input", source), "tokenizer/tokenizer.json")
    _refused(run_job(tmp_path / "out", tmp_path / "none", "--input", source), "none")
    pinned = f"{tiny_bundle}@sha256:{'0' * 64}"
    _refused(run_job(tmp_path / "out", Path(pinned), "--input", source), "0000")


def test_a_precision_the_bundle_does_not_have(source: Path, tmp_path: Path, text_bundle: Path) -> None:
    run = run_job(tmp_path / "out", text_bundle, "--input", source, "--precision", "bfloat16")
    _refused(run, "--precision bfloat16", "use float32")


def test_an_output_that_cannot_be_written(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    for output in (in_the_way, in_the_way / "below"):
        run = run_job(output, tiny_bundle, "--input", source)
        _refused(run, f"--output {output} cannot be written", "Choose a writable folder")
    assert in_the_way.read_bytes() == b""
    for url in ("ftp://host/out", "https://host/out"):
        _refused(run_job(url, tiny_bundle, "--input", source), f"{url}: a run is written to a local folder")


@pytest.mark.parametrize("run_id", ["", "a/b", "../up", ".hidden", "a b", "x" * 129])
def test_a_run_id_names_a_folder(run_id: str, source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, run_id=run_id)
    if run_id:
        _refused(Run(run.exit_code, tmp_path / "none", run.stdout, run.stderr), "--run_id")
    else:
        assert run.exit_code == 0  # as if it were left out


def test_a_finished_run_is_refused_and_stays_as_it_is(
    source: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    first = run_job(tmp_path / "out", tiny_bundle, "--input", source)
    before = {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()}
    second = run_job(tmp_path / "out", tiny_bundle, "--input", source)
    assert second.exit_code == 2
    assert "holds a finished run, which is not changed" in second.stderr
    assert {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()} == before
    assert set(first.root.iterdir()) == {
        path.parent if path.parent != first.root else path for path in before
    }


def test_an_unfinished_run_is_taken_up(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    root = tmp_path / "out/run"
    for name in ("_staging/embeddings-1.parquet", "embeddings/embeddings-00000-of-00009.parquet"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"left by a crash")
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--id_column", "id")
    assert run.exit_code == 0, run.stderr
    assert {path.name for path in root.iterdir()} == {"manifest.json", "report.html", "embeddings"}
    assert run.column("doc_id") == ["1", "2"]


def test_runs_of_one_root_stay_apart(source: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    ids = []
    for _ in range(2):
        run = run_job(tmp_path / "out", tiny_bundle, "--input", source, run_id="")
        assert run.exit_code == 0, run.stderr
        ids.append(json.loads((tmp_path / "out/latest.json").read_bytes())["run_id"])
    seconds = [run_id.partition("-")[0] for run_id in ids]  # of one second, either may sort first
    assert seconds == sorted(seconds)
    assert ids[0] != ids[1]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*ids, "latest.json"}


def test_odd_names_of_folders_are_no_patterns(tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out [1]*?"
    source = write_texts(tmp_path / "in.jsonl", ["a cat"])
    run = run_job(output, tiny_bundle, "--input", source)
    assert run.exit_code == 0, run.stderr
    assert run.rows.num_rows == 1
    assert {path.name for path in run.root.iterdir()} == {"manifest.json", "report.html", "embeddings"}

"""``--no_text``: not a word of the input in anything that a job writes or says."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.models.tiny import EXPLODING_MARK, FAILING_WORD, LARGE_MARK, NAN_WORD
from tests.support.runs.jobs import run_job, start_job, write_jsonl

CANARY = "xyzzycanary"


def _everything(root: Path) -> str:
    """All a run wrote, with what Parquet compresses in the clear."""
    found = [str(path.relative_to(root)) for path in root.rglob("*")]
    for path in root.rglob("*"):
        if path.suffix == ".parquet":
            found += [str(pq.read_table(path).to_pydict()), str(pq.read_metadata(path).to_dict())]
        elif path.is_file():
            found.append(path.read_text())
    return "\n".join(found)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Documents that go wrong in every way, each with the canary in its text."""
    texts = [CANARY, f"{CANARY} {FAILING_WORD}", f"{NAN_WORD} {CANARY}", f"{CANARY} {EXPLODING_MARK}"]
    texts += [f"{LARGE_MARK} {CANARY}", f"{CANARY} \ud800", CANARY * 900, ""]
    lines = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    with lines.open("a") as stream:
        stream.write(f'{{"text": "{CANARY}\n["{CANARY}"]\n{{"text": ["{CANARY}"]}}\n{{"{CANARY}": 1}}\n')
    lines = [CANARY.encode(), CANARY.encode(), CANARY.encode() + b"\xff"]
    (tmp_path / "b.jsonl").write_bytes(b"".join(b'{"text": "' + line + b'"}\n' for line in lines))
    whole = gzip.compress(f'{{"text": "{CANARY}"}}\n'.encode() * 50)
    (tmp_path / "c.jsonl.gz").write_bytes(whole[:-9])
    (tmp_path / "d.csv").write_text(f'text,n\n"{CANARY}",1\n{CANARY},1,2,3\n"{CANARY}')
    return tmp_path


@pytest.mark.parametrize("bundle", ["tiny_bundle", "text_bundle"])
def test_no_input_text_leaves_the_job(bundle: str, inputs: Path, request: pytest.FixtureRequest) -> None:
    patterns = [inputs / "*.jsonl", inputs / "*.jsonl.gz", inputs / "*.csv"]
    flags = ["--text_column", "text", "--max_document_bytes", 5000, "--vector_dtype", "float16", "--no_text"]
    run = run_job(
        inputs / "out",
        request.getfixturevalue(bundle),
        "--input",
        *patterns,
        *flags,
        "--max_dead_fraction",
        1,
    )
    assert run.exit_code == 3, run.stderr  # the cut file
    reasons = run.manifest.counts.dead_by_reason
    assert {"too_large", "invalid_unicode", "broken_json", "bad_csv_row", "blank_text"} <= set(reasons)
    assert {"model_error"} <= set(reasons)
    assert {letter["text"] for letter in run.dead} == {None}
    assert CANARY not in _everything(run.root)
    assert CANARY not in run.stdout + run.stderr


def test_without_the_flag_the_canary_is_found(inputs: Path, tiny_bundle: Path) -> None:
    flags = ["--text_column", "text", "--max_dead_fraction", 1, "--max_dead_files", 1, "--keep_text"]
    run = run_job(inputs / "out", tiny_bundle, "--input", inputs / "*.jsonl", *flags)
    assert run.exit_code == 0, run.stderr
    assert CANARY in str(run.dead)
    assert CANARY in _everything(run.root)


def test_a_process_says_nothing_of_its_input(inputs: Path, text_bundle: Path, tmp_path: Path) -> None:
    """What native code writes to standard error counts, too, and what is left in the current folder."""
    started_in = tmp_path / "started_in"
    started_in.mkdir()
    flags = ["--text_column", "text", "--no_text", "--run_id", "run"]
    job = start_job(inputs / "out", text_bundle, "--input", inputs / "a.jsonl", *flags, cwd=started_in)
    stdout, stderr = job.communicate(timeout=200)
    assert job.returncode == 3, stderr
    assert "Run FAILED" in stdout
    assert CANARY not in stdout + stderr
    assert CANARY not in _everything(inputs / "out")
    assert [*started_in.iterdir()] == []

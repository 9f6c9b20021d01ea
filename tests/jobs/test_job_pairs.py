"""Whole jobs on two texts: PyTorch's scores in Parquet, what is counted, reuse by both texts, wrong use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.base.records import Document
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.encode.dofn import EncodeDoFn
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.runs.__main__ import main as runs_command
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.classifier import Classifier
from tests.goldens.pair_texts import PAIRS
from tests.support.models import pairs
from tests.support.runs.jobs import PROJECT, Run, run_classify, run_job, write_jsonl, write_texts

Build = Callable[[str], ModelBundle]
COLUMNS = ("--text_column", "question", "--text_pair_column", "passage", "--id_column", "id")


def write_pairs(path: Path, texts: Sequence[tuple[str | None, str | None]]) -> Path:
    return write_jsonl(
        path,
        ({"id": str(at), "question": first, "passage": second} for at, (first, second) in enumerate(texts)),
    )


def job(
    folder: Path, bundle: ModelBundle, texts: Sequence[tuple[str | None, str | None]], *flags: Any
) -> Run:
    folder.mkdir(exist_ok=True)
    source = write_pairs(folder / "in.jsonl", texts)
    return run_classify(folder / "out", bundle.path, "--input", source, *COLUMNS, *flags)


@pytest.mark.parametrize("number", [101, pytest.param(len(PAIRS), marks=pytest.mark.slow)])
def test_scores_of_pairs_equal_those_of_pytorch(number: int, tmp_path: Path, build_pairs: Build) -> None:
    some = PAIRS[:number]
    half_empty = sum(bool(first) != bool(second) for first, second in some)
    empty = [str(at) for at, pair in enumerate(some) if not any(pair)]
    run = job(tmp_path, build_pairs(pairs.RERANKER), some, "--max_batch_tokens", 4096, "--keep_text")
    assert run.exit_code == 0, run.stderr
    assert "99" in run.reasons
    assert run.reasons == dict.fromkeys(empty, "blank_text")
    at = np.array(run.column("doc_id"), dtype=int)
    logits = pairs.recorded(f"{pairs.RERANKER}/logits")[at, 0]
    np.testing.assert_allclose(run.column("score"), logits, atol=1e-5)
    assert list(zip(run.column("text"), run.column("text_pair"), strict=True)) == [PAIRS[i] for i in at]
    lost = np.array([run.column("num_lost_tokens"), run.column("num_lost_tokens_pair")])
    assert run.column("was_truncated") == (lost.sum(axis=0) > 0).tolist()
    counts = run.manifest.counts
    assert counts.num_lost_tokens == lost.sum() > 0
    assert counts.num_truncated == sum(run.column("was_truncated"))
    assert counts.num_half_blank == half_empty
    assert f"half blank {half_empty} pairs with one blank text" in run.stdout
    assert "question with passage" in run.stderr
    assert runs_command([str(run.root), "validate"]) == 0


def test_a_change_of_either_text_is_a_change(tmp_path: Path, build_pairs: Build) -> None:
    bundle = build_pairs(pairs.RERANKER)
    before = [("the cat", "sat"), ("the cat", "on the mat"), ("two", "words"), ("", "a"), ("a", "")]
    after = [("the cat", "sat"), ("the cat", "on a mat"), ("three", "words"), ("a", ""), ("a", "")]
    flags = ("--max_batch_tokens", 4096, "--no_report")
    source = write_pairs(tmp_path / "in.jsonl", before)
    first = run_classify(tmp_path / "out", bundle.path, "--input", source, *COLUMNS, *flags, run_id="a")
    assert first.exit_code == 0, first.stderr
    assert len(set(first.column("text_sha256"))) == 5
    write_pairs(source, after)
    argv = ("--input", source, *COLUMNS, *flags, "--previous", "latest", "--dedupe")
    second = run_classify(tmp_path / "out", bundle.path, *argv, run_id="b")
    assert second.exit_code == 0, second.stderr
    counts = second.manifest.counts
    # The fourth has the texts of the fifth before: its rows are copied, and its document has changed.
    assert (counts.num_reused, counts.num_written) == (3, 2)
    assert counts.changes == {"changed": 3}
    scores = dict(zip(second.column("doc_id"), second.column("score"), strict=True))
    expected = Classifier(bundle, max_batch_tokens=4096).score(after).scores[:, 0]
    np.testing.assert_allclose([scores[str(at)] for at in range(5)], expected, atol=1e-5)


@pytest.mark.slow
def test_windows_of_the_second_text_have_rows(tmp_path: Path, build_pairs: Build) -> None:
    bundle = build_pairs(pairs.RERANKER)
    texts = [("the cat", "which 3 cities sat on the mat. " * 9), ("two", "a"), ("cat " * 60, "a")]
    flags = ("--rows", "window", "--window_overlap", 3, "--keep_text", "--max_batch_tokens", 4096)
    run = job(tmp_path, bundle, texts, *flags, "--max_dead_fraction", 0.5)
    assert run.exit_code == 0, run.stderr
    assert run.reasons == {"2": "too_long"}
    assert run.dead[0]["text"] == json.dumps(list(texts[2]))
    rows = run.rows.to_pylist()
    long = [row for row in rows if row["doc_id"] == "0"]
    assert [row["window_index"] for row in long] == list(range(len(long)))
    assert (long[0]["char_start"], long[-1]["char_end"]) == (0, len(texts[0][1]))
    for row in rows:
        first, second = texts[int(row["doc_id"])]
        assert row["text"] == first
        assert row["text_pair"] == second[row["char_start"] : row["char_end"]]
        assert (row["num_lost_tokens"], row["num_lost_tokens_pair"]) == (0, 0)
    best = job(tmp_path / "best", bundle, texts[:2], "--on_long", "windows", "--window_overlap", 3)
    assert best.column("score")[0] == pytest.approx(max(row["score"] for row in long), abs=1e-6)


def test_no_text_is_written_where_none_may_be(tmp_path: Path, build_pairs: Build) -> None:
    texts = [("secret question", "veiled passage"), ("secret", None), ("  ", "\n")]
    run = job(tmp_path, build_pairs(pairs.RERANKER), texts, "--no_text", "--max_batch_tokens", 4096)
    assert run.exit_code == 0, run.stderr
    assert run.reasons == {"1": "blank_text", "2": "blank_text"}
    assert [letter["text"] for letter in run.dead] == [None, None]
    assert not {"text", "text_pair"} & set(run.rows.schema.names)
    written = b"".join(path.read_bytes() for path in run.root.rglob("*") if path.is_file())
    for word in (b"secret", b"veiled"):
        assert word not in written
        assert word.decode() not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("pair_bundle", "flags", "message"),
    [
        (True, ("--text_column", "question"), "scores two texts together, but the input names one"),
        (False, COLUMNS, "takes one text at a time. Leave it out, join the columns with --text_column A,B"),
        (True, (*COLUMNS, "--prompt_text", "q: "), "scores two texts as they are"),
        (True, (*COLUMNS, "--on_long", "windows", "--window_overlap", "36"), "--window_overlap 36"),
        (True, (*COLUMNS, "--rows", "window", "--on_long", "truncate"), "--rows window splits long texts"),
        (
            True,
            (*COLUMNS, "--keep_columns", "id", "--rename_columns", "id=num_lost_tokens"),
            "num_lost_tokens",
        ),
        (True, (*COLUMNS, "--precision", "int8"), "has no int8 weights"),
        (False, ("--text_column", "question", "--rows", "window"), "windows need a bundle for pairs"),
    ],
)
def test_wrong_use_is_told_before_work(
    pair_bundle: bool,
    flags: Sequence[str],
    message: str,
    tmp_path: Path,
    build_pairs: Build,
    build_head: Build,
) -> None:
    bundle = build_pairs(pairs.RERANKER) if pair_bundle else build_head("tiny_distilbert_mood")
    source = write_pairs(tmp_path / "in.jsonl", [("a", "b")])
    run = run_classify(tmp_path / "out", bundle.path, "--input", source, *flags)
    assert run.exit_code == 2
    assert message in run.stderr
    assert not run.root.exists()


def test_the_sample_and_vectors_are_refused(tmp_path: Path, build_pairs: Build) -> None:
    bundle = build_pairs(pairs.RERANKER)
    sample = run_classify(tmp_path / "out", bundle.path)
    assert (sample.exit_code, sample.root.exists()) == (2, False)
    assert "give --input, and the columns of both texts" in sample.stderr
    vectors = run_job(tmp_path / "out", bundle.path, "--input", write_texts(tmp_path / "in.jsonl", ["a"]))
    assert vectors.exit_code == 2
    assert "gives no vectors" in vectors.stderr


@pytest.mark.slow
def test_a_forecast_reads_both_texts(tmp_path: Path, build_pairs: Build) -> None:
    run = job(tmp_path, build_pairs(pairs.RERANKER), PAIRS, "--forecast", "full", "--max_batch_tokens", 4096)
    assert run.exit_code == 0, run.stderr
    assert f"{len(PAIRS) - 2:,} documents" in run.stdout


@pytest.mark.slow
def test_the_example_in_the_docs_runs(build_pairs: Build) -> None:
    page = (PROJECT / "docs" / "how-to" / "classify.md").read_text(encoding="utf-8")
    (code,) = re.findall(
        r"```python\n(.*?)```", page.partition("## Two texts")[2].partition("\n## ")[0], re.DOTALL
    )
    scope: dict[str, Any] = {"RERANKER": str(build_pairs(pairs.RERANKER).path)}
    exec(code, scope)
    assert scope["found"].scores.shape == (2, 1)


def test_documents_must_be_of_the_models_kind(build_pairs: Build, build_head: Build) -> None:
    """In a pipeline of one's own, nobody has compared the input with the bundle."""
    pair, single = Document("1", "f", "a", text_pair="b"), Document("1", "f", "a")
    for bundle, document, message in (
        (build_pairs(pairs.RERANKER), single, "takes two texts, but a document has one"),
        (build_head("tiny_distilbert_mood"), pair, "has two texts, but the model takes one"),
    ):
        settings = EncodeSettings.resolve_classes(str(bundle.path))
        dofn = EncodeDoFn(settings, schema_of(settings, pa.schema([])), 0, None)
        dofn.setup()
        dofn.start_bundle()
        with pytest.raises(UsageError, match=message):
            list(dofn.process(document))


def test_the_columns_are_documented(build_pairs: Build) -> None:
    page = (PROJECT / "docs" / "how-to" / "classify.md").read_text(encoding="utf-8")
    table = page.partition("## Rows\n")[2].partition("\n\n")[0]
    place = str(build_pairs(pairs.RERANKER).path)
    settings = EncodeSettings.resolve_classes(place, keep_text=True, rows="window")
    assert {f"`{name}`" for name in schema_of(settings, pa.schema([])).names} <= set(
        re.findall(r"`\w+`", table)
    )

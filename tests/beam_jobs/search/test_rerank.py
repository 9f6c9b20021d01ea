"""``search --rerank``: the reranker's order of the documents that the vectors found; what it needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.search.__main__ import main
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.classifier import Classifier
from tests.support.models import pairs
from tests.support.runs.jobs import Run, capture, run_job, write_jsonl

Build = Callable[[str], ModelBundle]
TEXTS = {
    "cat": "the cat sat on the mat",
    "dog": "a quick brown dog ran home",
    "time": "time and time of the home",
    "two": "two words of a long sentence",
    "long": "which cities " * 30,
}
QUERY = "the cat of the home"


@pytest.fixture(scope="module")
def run(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("rerank")
    source = write_jsonl(folder / "in.jsonl", ({"id": name, "text": text} for name, text in TEXTS.items()))
    flags = ("--id_column", "id", "--keep_text", "--no_report", "--max_batch_tokens", 4096)
    done = run_job(folder / "out", tiny_bundle, "--input", source, *flags)
    assert done.exit_code == 0, done.stderr
    return done


def search(*argv: Any) -> tuple[int, str, str]:
    """Runs the command: exit code, output, errors."""
    with capture() as (stdout, stderr):
        code = main([str(word) for word in argv])
    return code, stdout.getvalue(), stderr.getvalue()


def hits(*argv: Any) -> list[dict[str, Any]]:
    code, stdout, stderr = search(*argv, "--format", "json")
    assert code == 0, stderr
    (line,) = stdout.splitlines()
    found: list[dict[str, Any]] = json.loads(line)["hits"]
    return found


def test_the_best_by_the_reranker_come_first(run: Run, build_pairs: Build) -> None:
    bundle = build_pairs(pairs.RERANKER)
    scored = Classifier(bundle, max_batch_tokens=4096).score([(QUERY, text) for text in TEXTS.values()])
    scores = dict(zip(TEXTS, scored.scores[:, 0].tolist(), strict=True))
    near = hits(run.root, "--query", QUERY)
    cosines = {hit["row"]["doc_id"]: hit["cosine"] for hit in near}
    flags = ("--query", QUERY, "--rerank", bundle.path)
    found = hits(run.root, *flags, "--top", 3)
    best = sorted(scores, key=lambda name: -scores[name])
    assert [hit["row"]["doc_id"] for hit in found] == best[:3] != [hit["row"]["doc_id"] for hit in near[:3]]
    for hit in found:
        name = hit["row"]["doc_id"]
        assert hit["score"] == pytest.approx(scores[name], abs=1e-5)
        assert hit["cosine"] == cosines[name]
    # Only so many of the nearest are scored.
    few = [hit["row"]["doc_id"] for hit in hits(run.root, *flags, "--top", 2, "--rerank_top", 2)]
    assert sorted(few) == sorted(hit["row"]["doc_id"] for hit in near[:2])
    _, stdout, _ = search(run.root, *flags, "--top", 1)
    shown = stdout.splitlines()[1].split()
    assert shown[:4] == ["1", f"{scores[best[0]]:.3f}", f"{cosines[best[0]]:.3f}", best[0]]
    assert hits(run.root, *flags, "--where", "false") == []


def test_what_a_reranker_needs(
    run: Run, tiny_bundle: Path, build_pairs: Build, build_head: Build, tmp_path: Path
) -> None:
    reranker = build_pairs(pairs.RERANKER).path
    for flags, message in (
        (("--rerank_top", 9), "--rerank_top needs --rerank"),
        (("--rerank", reranker, "--rerank_top", 4), "--rerank_top must be at least --top 5, not 4"),
        (("--rerank", reranker, "--rerank_top", 0), "must be at least --top 5, not 0"),
        (("--rerank", tiny_bundle), "gives vectors, not classes"),
        (
            ("--rerank", build_head(pairs.RERANKER).path),
            "takes one text at a time. A reranker gives one score",
        ),
        (("--rerank", tmp_path), "is not a model bundle"),
    ):
        code, _, stderr = search(run.root, "--query", QUERY, *flags)
        assert (code, message in stderr) == (2, True), stderr


@pytest.mark.slow
def test_runs_without_texts_are_refused_and_so_are_heads_with_labels(
    tiny_bundle: Path, build_pairs: Build, run: Run, tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": "the cat"}])
    reranker = build_pairs(pairs.RERANKER).path
    for number, (flags, message) in enumerate(
        [
            ((), "The run stores no texts; make it with --keep_text"),
            (("--no_text",), "made with --no_text"),
            (("--rows", "word", "--keep_text"), "rows of this run are words"),
        ]
    ):
        made = run_job(tmp_path / str(number), tiny_bundle, "--input", source, *flags)
        assert made.exit_code == 0, made.stderr
        code, _, stderr = search(made.root, "--query", QUERY, "--rerank", reranker)
        assert (code, message in stderr) == (2, True), stderr
    code, _, stderr = search(run.root, "--query", QUERY, "--rerank", build_pairs("tiny_distilbert_mood").path)
    assert code == 2
    assert "has the labels bad, so-so, good" in stderr

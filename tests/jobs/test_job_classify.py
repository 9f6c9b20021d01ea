"""Whole classify jobs: labels and scores in Parquet, as in memory; wrong use is told before work."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.encode.run_inference import BundleModelHandler
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.runs.__main__ import main as runs_command
from beam_jobs.store.finished_run import find_run
from model_bundle.builders.bert.build import build_encoder_bundle
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from tests.conftest import shared_path
from tests.support.models import heads
from tests.support.runs.jobs import PROJECT, Run, run_classify, run_job, write_jsonl, write_texts

Build = Callable[[str], ModelBundle]
PAGE = PROJECT / "docs" / "how-to" / "classify.md"
TEXTS = ["the cat sat on the mat.", "a", "one of the two cities", "unbelievably long " * 30, "it's 3 cats"]


def job(tmp_path: Path, bundle: ModelBundle, texts: list[str], *flags: Any) -> Run:
    tmp_path.mkdir(exist_ok=True)
    source = write_texts(tmp_path / "in.jsonl", texts)
    return run_classify(tmp_path / "out", bundle.path, "--input", source, "--id_column", "id", *flags)


def finished(tmp_path: Path, bundle: ModelBundle, texts: list[str], *flags: Any) -> Run:
    run = job(tmp_path, bundle, texts, *flags)
    assert run.exit_code == 0, run.stderr
    return run


def test_rows_hold_a_label_and_the_score_of_each(tmp_path: Path, build_head: Build) -> None:
    bundle = build_head("tiny_distilbert_mood")
    run = finished(tmp_path, bundle, [*TEXTS, " "], "--keep_logits", "--buffer_documents", 2)
    expected = Classifier(bundle).classify(TEXTS)
    assert run.column("doc_id") == [str(index) for index in range(len(TEXTS))]
    assert run.column("label") == expected.labels
    np.testing.assert_allclose(run.column("scores"), expected.scores, atol=1e-6)
    np.testing.assert_allclose(run.column("logits"), expected.logits, atol=1e-5)
    assert run.column("was_truncated") == [False, False, False, True, False]
    assert run.manifest.counts.num_unknown_tokens == sum(run.column("num_unknown_tokens"))
    assert "embedding" not in run.rows.schema.names
    floats = pa.list_(pa.field("element", pa.float32(), nullable=False))
    assert run.rows.schema.field("scores").type == floats
    assert run.reasons == {"5": "blank_text"}


def test_what_scores_mean_stands_in_files_and_manifest(tmp_path: Path, build_head: Build) -> None:
    run = finished(tmp_path, build_head("tiny_distilbert_mood"), TEXTS)
    (path,) = run.files("classes")
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"beam_jobs.labels"]) == ["bad", "so-so", "good"]
    assert metadata[b"beam_jobs.scores"] == b"softmax"
    assert run.manifest.bundle["labels"] == ["bad", "so-so", "good"]
    assert {file.kind for file in run.manifest.files} == {"classes"}
    assert run.manifest.config["task"] == "classify"
    assert "3 labels" in run.stderr
    assert f"{run.root}/classes" in run.stdout


def test_several_labels_are_those_that_reach_the_threshold(tmp_path: Path, build_head: Build) -> None:
    bundle = build_head("tiny_roberta_topics")
    expected = Classifier(bundle).classify(TEXTS)
    threshold = float(
        np.sort(expected.scores.reshape(-1))[6:8].mean()
    )  # 8 of 15, so not of each text as many
    for number, (flags, least) in enumerate([((), 0.5), (("--threshold", repr(threshold)), threshold)]):
        run = finished(tmp_path / str(number), bundle, TEXTS, *flags)
        wanted = [
            [expected.names[i] for i in np.argsort(-row, kind="stable") if row[i] >= least]
            for row in expected.scores.astype(np.float64)
        ]
        assert run.column("labels") == wanted
        assert number == 0 or sum(map(len, wanted)) == 8
        assert "label" not in run.rows.schema.names
        np.testing.assert_allclose(run.column("scores"), expected.scores, atol=1e-6)


@pytest.mark.parametrize(
    "model", ["tiny_distilbert_mood", pytest.param("tiny_roberta_topics", marks=pytest.mark.slow)]
)
def test_the_best_labels_with_their_scores(model: str, tmp_path: Path, build_head: Build) -> None:
    bundle = build_head(model)
    run = finished(tmp_path, bundle, TEXTS, "--top_k", 2)
    expected = Classifier(bundle).classify(TEXTS)
    best = np.argsort(-expected.logits, axis=1, kind="stable")[:, :2]
    assert run.column("top_labels") == [[expected.names[i] for i in row] for row in best]
    np.testing.assert_allclose(
        run.column("top_scores"), np.take_along_axis(expected.scores, best, axis=1), atol=1e-6
    )
    assert "scores" not in run.rows.schema.names
    assert ("label" if "mood" in model else "labels") in run.rows.schema.names


def test_a_quantity_is_one_number(tmp_path: Path, build_head: Build) -> None:
    bundle = build_head("tiny_bert_rating")
    run = finished(tmp_path, bundle, TEXTS)
    assert run.rows.schema.field("score").type == pa.float32()
    np.testing.assert_allclose(
        run.column("score"), Classifier(bundle).classify(TEXTS).scores[:, 0], atol=1e-5
    )
    assert not {"label", "labels", "scores"} & set(run.rows.schema.names)


@pytest.mark.parametrize(
    "model",
    [heads.JUDGE_TOKENS[0], *(pytest.param(m, marks=pytest.mark.slow) for m in heads.JUDGE_TOKENS[1:])],
)
def test_words_have_a_row_each_with_place_and_label(model: str, tmp_path: Path, build_head: Build) -> None:
    bundle, golden = build_head(model), heads.expected(model)
    texts = [text for text in golden.texts if text.strip()] + ["the cat sat " * 60]
    run = finished(tmp_path, bundle, texts, "--keep_text")
    expected = Classifier(bundle).classify(texts)
    assert expected.words is not None
    assert run.column("word") == expected.words.words
    assert run.column("word_index") == expected.words.index.tolist()
    assert run.column("label") == expected.labels
    np.testing.assert_allclose(run.column("scores"), expected.scores, atol=1e-5)
    whole = -1
    for row in run.rows.to_pylist():
        whole += row["word_index"] == 0
        assert texts[whole][row["char_start"] : row["char_end"]] == row["word"]
        assert row["text"] in texts[whole]  # what stands around the word, where the text is long
        assert row["word"] in row["text"]
    assert whole == len(texts) - 1
    last = [row for row in run.rows.to_pylist() if row["doc_id"] == str(len(texts) - 1)]
    assert all(row["was_truncated"] for row in last)
    counts = run.manifest.counts
    assert counts.num_truncated == 1
    assert counts.num_lost_words == 180 - len(last) > 0
    hidden = finished(tmp_path / "hidden", bundle, texts, "--no_text")
    assert "word" not in hidden.rows.schema.names
    assert hidden.column("char_start") == run.column("char_start")


def test_the_step_gives_classes_in_a_pipeline_of_ones_own(build_head: Build) -> None:
    bundle = build_head("tiny_distilbert_mood")
    labels = dict(zip(TEXTS, Classifier(bundle).classify(TEXTS).labels, strict=True))
    scope: dict[str, Any] = {"CLASSIFIER": str(bundle.path), "TEXTS": TEXTS, "_append": _append}
    page = (PAGE.parent / "pipelines.md").read_text(encoding="utf-8").partition("## Classes instead")[2]
    wanted = Counter(labels.values()).most_common(1)[0][0]
    code = page.split("```python\n")[1].partition("```")[0].replace("found.append", "_append")
    _collected.clear()
    exec(code.replace('"good"', repr(wanted)), scope)
    found = sorted(row["doc_id"] for row in _collected)
    assert found == sorted(text for text, label in labels.items() if label == wanted)


# Steps are pickled: what they collect must be found by name.
_collected: list[dict[str, Any]] = []


def _append(row: dict[str, Any]) -> None:
    _collected.append(row)


def test_labels_of_the_original_model(tmp_path: Path) -> None:
    root = shared_path("fixtures/keras_legacy/dev/004/seqclass_save_pretrained")
    source = read_bert_source(str(root / "tf"), BertOptions(head=HeadOptions())).source
    bundle = build_encoder_bundle(source, tmp_path / "bundle")
    case = next(c for c in json.loads((root / "expected.json").read_text())["cases"] if c["name"] == "batch")
    run = finished(tmp_path, bundle, case["texts"], "--keep_logits")
    kept = [index for index, text in enumerate(case["texts"]) if text.strip()]
    logits = np.array(case["outputs"]["logits"])[kept]
    assert run.column("doc_id") == [str(index) for index in kept]
    assert run.column("label") == [f"LABEL_{index}" for index in logits.argmax(axis=1)]
    np.testing.assert_allclose(run.column("logits"), logits, atol=1e-5)


def test_vectors_of_a_classifier_are_the_layer_below_its_head(tmp_path: Path, build_head: Build) -> None:
    bundle = build_head("tiny_roberta_topics")
    run = run_job(tmp_path, bundle.path, "--input", write_texts(tmp_path / "in.jsonl", TEXTS))
    assert run.exit_code == 0, run.stderr
    np.testing.assert_allclose(run.column("embedding"), Encoder(bundle).encode(TEXTS), atol=1e-5)


def test_the_examples_of_the_page_run(tmp_path: Path, build_head: Build) -> None:
    bundle = build_head("tiny_distilbert_mood")
    run = finished(tmp_path, bundle, TEXTS)
    scope: dict[str, Any] = {"RUN": str(run.root), "BUNDLE": str(bundle.path)}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in [block for block in blocks if "RERANKER" not in block]:  # test_job_pairs runs that one
        exec(block, scope)
    assert dict(scope["counts"]) == dict(Counter(run.column("label")))
    assert 1 <= len(scope["surest"]) <= 3
    assert len(scope["found"].labels) == 2


COLUMNS = re.compile(r"`([a-z0-9_]+)`")


@pytest.mark.parametrize("model", heads.MODELS)
def test_every_column_is_on_the_page(model: str, build_head: Build) -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Rows\n")[2].partition("\n\n")[0]
    documented = {name for row in table.splitlines() for name in COLUMNS.findall(row.split("|")[1])}
    place = str(build_head(model).path)
    for options in ({"keep_logits": True}, {"top_k": 1} if "rating" not in model else {}):
        settings = EncodeSettings.resolve_classes(place, keep_text=True, **options)
        assert set(schema_of(settings, pa.schema([])).names) <= documented


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("tiny_distilbert_mood", ["--threshold", "0.5"], "tiny_distilbert_mood assigns one label"),
        ("tiny_bert_rating", ["--threshold", "0.5"], "predicts quantities"),
        ("tiny_bert_rating", ["--top_k", "1"], "predicts quantities, which have no ranking"),
        ("tiny_distilbert_mood", ["--top_k", "4"], "has 3 labels (bad, so-so, good); choose 1 to 3"),
        ("tiny_distilbert_mood", ["--top_k", "0"], "choose 1 to 3"),
        ("tiny_roberta_topics", ["--threshold", "1.5"], "a score from 0 to 1"),
        ("tiny_roberta_topics", ["--threshold", "nan"], "a score from 0 to 1"),
        ("tiny_distilbert_mood", ["--layer", "1"], "--layer"),
        ("tiny_distilbert_mood", ["--max_tokens", "65"], "takes at most 64"),
        ("tiny_distilbert_mood", ["--keep_columns", "top_labels", "--top_k", "2"], "top_labels"),
        ("tiny_distilbert_mood", ["--keep_columns", "label"], "label"),
    ],
)
def test_wrong_use_is_told_before_work(
    model: str, flags: list[str], message: str, tmp_path: Path, build_head: Build
) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "a", "label": "x", "top_labels": "y"}])
    run = run_classify(tmp_path / "out", build_head(model).path, "--input", source, *flags)
    assert run.exit_code == 2
    assert message in run.stderr
    assert not run.root.exists()


def test_a_bundle_of_vectors_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    run = run_classify(tmp_path, tiny_bundle, "--input", write_texts(tmp_path / "in.jsonl", TEXTS))
    assert run.exit_code == 2
    assert "gives vectors, not classes. For vectors use python -m beam_jobs.embed" in run.stderr


def test_a_bundle_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    from beam_jobs.classify import main

    assert main(["--input", "a.txt"]) == 2
    assert "--bundle" in capsys.readouterr().err


def test_scores_are_not_for_run_inference(build_head: Build) -> None:
    settings = EncodeSettings.resolve_classes(str(build_head("tiny_bert_rating").path))
    with pytest.raises(UsageError, match="EncodeDocuments for words and classes"):
        BundleModelHandler(settings)


def test_settings_that_change_rows_change_their_digest(build_head: Build) -> None:
    place = str(build_head("tiny_roberta_topics").path)
    kinds: list[dict[str, Any]] = [{}, {"top_k": 1}, {"threshold": 0.7}, {"keep_logits": True}]
    digests = {EncodeSettings.resolve_classes(place, **kind).digest for kind in kinds}
    assert len(digests | {EncodeSettings.resolve(place).digest}) == 5


def test_true_labels_are_counted_against(tmp_path: Path, build_head: Build) -> None:
    """A column named as one of ours is renamed; the manifest, the summary and the page have the counts."""
    bundle = build_head("tiny_distilbert_mood")
    labels = Classifier(bundle).classify(TEXTS).labels
    names = ["bad", "so-so", "good"]
    wrong = next(name for name in names if name != labels[0])
    true = [wrong, labels[1], str(names.index(labels[2])), None, "unheard"]
    rows = [
        {"id": str(i), "text": text, "label": value}
        for i, (text, value) in enumerate(zip(TEXTS, true, strict=True))
    ]
    write_jsonl(tmp_path / "in.jsonl", rows)
    flags = ["--input", tmp_path / "in.jsonl", "--id_column", "id", "--keep_text", "--gold_column", "label"]
    refused = run_classify(tmp_path / "no", bundle.path, *flags)
    assert refused.exit_code == 2
    assert "--rename_columns label=NEW" in refused.stderr
    run = run_classify(tmp_path / "out", bundle.path, *flags, "--rename_columns", "label=truth")
    assert run.exit_code == 0, run.stderr
    assert run.column("truth") == true
    counts = run.manifest.counts
    assert counts.rows_by_label == dict(Counter(labels))
    assert counts.gold is not None
    assert (counts.gold.num_rows, counts.gold.num_missing, counts.gold.num_unknown) == (3, 1, 1)
    assert counts.gold.accuracy == 2 / 3
    assert counts.gold.confusion[wrong] == {labels[0]: 1}
    assert "accuracy 66.67 % of 3 rows with a label in label, 1 without one" in run.stdout
    page = (Path(run.root) / "report.html").read_text()
    assert "Beside the true labels in label" in page
    assert "Most certain with another true label" in page
    assert TEXTS[0] in page


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("tiny_roberta_topics", "assigns several labels"),
        ("tiny_bert_rating", "predicts quantities"),
        ("tiny_bert_entities", "classifies words"),
    ],
)
def test_true_labels_need_one_label_per_text(model: str, what: str, build_head: Build) -> None:
    with pytest.raises(UsageError, match=f"one label per text; {model} {what}"):
        EncodeSettings.resolve_classes(str(build_head(model).path), gold="truth")


@pytest.mark.slow
def test_a_copy_of_a_chain_counts_the_labels_of_all_rows(tmp_path: Path, build_head: Build) -> None:
    """A run of changes counts its own rows; a copy of both has the counts of a whole run."""
    bundle = build_head("tiny_distilbert_mood")
    first = [{"id": str(i), "text": text, "truth": "good"} for i, text in enumerate(TEXTS)]
    second = [*first, {"id": "new", "text": "three cats and two mats", "truth": "bad"}]
    flags = ["--input", tmp_path / "in.jsonl", "--id_column", "id", "--gold_column", "truth"]
    write_jsonl(tmp_path / "in.jsonl", first)
    assert run_classify(tmp_path / "out", bundle.path, *flags, run_id="a").exit_code == 0
    write_jsonl(tmp_path / "in.jsonl", second)
    changes = ("--previous", "latest", "--emit", "changes")
    part = run_classify(tmp_path / "out", bundle.path, *flags, *changes, run_id="b")
    whole = run_classify(tmp_path / "whole", bundle.path, *flags, run_id="c")
    assert sum(part.manifest.counts.rows_by_label.values()) == 1
    code = runs_command([str(tmp_path / "out"), "compact", "--run_id", "d"])
    assert code == 0
    copied, expected = (find_run(str(root)).manifest.counts for root in (tmp_path / "out", Path(whole.root)))
    for name in ("rows_by_label", "num_without_label", "rows_by_score", "gold"):
        assert getattr(copied, name) == getattr(expected, name), name
    assert copied.gold is not None
    assert copied.gold.num_rows == len(second)

"""Scores of two texts: PyTorch's, in any order and company, empty or too long; windows; refusals."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.bert.build import build_encoder_bundle
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import page
from model_bundle.bundle.manifest import TOKENIZER_FILE, BundleManifest
from model_bundle.cli.main import main
from model_bundle.errors import BundleFormatError, ModelRunError, SettingsError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.scores import scores_of
from model_bundle.inference.verify import verify
from model_bundle.inference.window_results import combine_windows
from model_bundle.runtime.long_texts import Combine, LongTexts, OnLong, WindowsAt
from model_bundle.text.pairs import PairInput
from tests.conftest import DATA_DIR
from tests.goldens.pair_texts import MAX_TOKENS, PAIRS
from tests.support.models import pairs
from tests.support.models.bert_formats import copy_source

Build = Callable[[str], ModelBundle]


@pytest.fixture(scope="module")
def reranker(build_pairs: Build) -> Classifier:
    return Classifier(build_pairs(pairs.RERANKER), max_batch_tokens=4096)


def built(folder: Path, source: Path, **options: Any) -> ModelBundle:
    head = HeadOptions(pairs=True, **options)
    read = read_bert_source(str(source), BertOptions(head=head, max_tokens=MAX_TOKENS))
    return build_encoder_bundle(read.source, folder)


@pytest.mark.parametrize("model", pairs.MODELS)
@pytest.mark.parametrize(("truncation", "key"), [("longest_first", ""), ("only_second", "only_second_")])
def test_ids_and_segments_equal_those_of_transformers(model: str, truncation: Any, key: str) -> None:
    tokenizer = DATA_DIR / model / Path(TOKENIZER_FILE).name
    found = PairInput(tokenizer, MAX_TOKENS, 0, truncation).prepare(PAIRS)
    has_types = "distilbert" not in model
    assert pairs.digest(found, with_types=has_types) == pairs.recorded(f"{model}/{key}digest").tobytes()
    unfit = np.isnan(pairs.recorded(f"{model}/only_second")).all(axis=1)
    assert (found.is_unfit == (unfit if key else False)).all()
    assert 20 < (found.num_cut.sum(axis=1) > 0).sum() < 900


def test_scores_of_a_thousand_pairs_equal_those_of_pytorch(reranker: Classifier) -> None:
    found = reranker.score(PAIRS)
    np.testing.assert_allclose(found.logits, pairs.recorded(f"{pairs.RERANKER}/logits"), atol=1e-5)
    assert (found.scores.shape, found.scores.dtype) == ((len(PAIRS), 1), np.float32)
    # transformers gives the output of one label as it is.
    np.testing.assert_array_equal(found.scores, found.logits)


@pytest.mark.slow
@pytest.mark.parametrize("model", [*pairs.MODELS[1:], *pairs.FAMILIES])
def test_scores_of_other_heads_equal_those_of_pytorch(model: str, build_pairs: Build) -> None:
    found = Classifier(build_pairs(model), max_batch_tokens=4096).score(PAIRS)
    # The template of the small ALBERT's tokenizer has no special tokens, so that two empty texts are nothing.
    some = [any(pair) or "albert" not in model for pair in PAIRS]
    np.testing.assert_allclose(found.logits[some], pairs.recorded(f"{model}/logits")[some], atol=1e-5)


@pytest.mark.slow
def test_two_labels_share_a_softmax_and_only_the_second_text_can_be_cut(tmp_path: Path) -> None:
    source = pairs.write_two_labels(tmp_path / "two")
    bundle = built(tmp_path / "bundle", source, pair_truncation="only_second")
    expected = pairs.recorded("two/only_second")
    fits = ~np.isnan(expected).any(axis=1)
    classifier = Classifier(bundle, max_batch_tokens=4096)
    with pytest.raises(ModelRunError, match=f"{(~fits).sum()} texts failed.*no room within 40 tokens"):
        classifier.score(PAIRS)
    found = classifier.score([pair for pair, good in zip(PAIRS, fits, strict=True) if good])
    np.testing.assert_allclose(found.logits, expected[fits], atol=1e-5)
    np.testing.assert_allclose(found.scores.sum(axis=1), 1, atol=1e-6)
    assert found.names == ("different", "same")


def test_a_score_depends_on_the_order_but_not_on_the_company(reranker: Classifier) -> None:
    some = PAIRS[:20]
    whole = reranker.score(PAIRS[:60]).scores[:20]
    for at, pair in enumerate(some[:6]):
        np.testing.assert_allclose(reranker.score([pair]).scores[0], whole[at], atol=1e-5)
    swapped = reranker.score([(second, first) for first, second in some]).scores
    assert np.abs(swapped - whole).max() > 0.05
    assert reranker.score([]).scores.shape == (0, 1)


def test_windows_keep_the_score_of_the_best_one(build_pairs: Build) -> None:
    bundle = build_pairs(pairs.RERANKER)
    windows = LongTexts(OnLong.WINDOWS, window_overlap=4)
    pair = ("the cat", "which cities sat on the mat. " * 12)
    each = Classifier(bundle, rows="window", long_texts=windows, max_batch_tokens=4096).score(
        [pair, ("a", "b")]
    )
    best = Classifier(bundle, long_texts=windows, max_batch_tokens=4096).score([pair, ("a", "b")])
    own = each.scores[each.row_texts == 0]
    assert len(own) > 2
    np.testing.assert_allclose(best.scores, [own.max(axis=0), each.scores[-1]], atol=1e-6)
    with pytest.raises(ModelRunError, match="The first text leaves the second no room within 40 tokens"):
        Classifier(bundle, long_texts=windows, max_batch_tokens=4096).score([("cat " * 50, "a")])


def test_labels_that_exclude_each_other_keep_one_windows_scores() -> None:
    logits = np.array([[1.0, 0.0, 1.2], [-3.0, 2.0, -3.0], [5.0, 4.0, 4.9]], np.float32)
    found = combine_windows(logits, np.array([0, 3]), np.ones(3), Combine.BEST, normalize=False)
    np.testing.assert_array_equal(found, logits[1:2])
    assert scores_of(logits, "softmax").max(axis=1).argmax() == 1


def test_one_text_is_refused_and_so_are_two_where_one_is_taken(
    reranker: Classifier, build_pairs: Build, build_head: Build
) -> None:
    bundle = build_pairs(pairs.RERANKER)
    with pytest.raises(SettingsError, match=r"scores two texts together: pass pairs to score\(\)"):
        reranker.classify(["one text"])
    with pytest.raises(SettingsError, match=r"takes one text at a time: pass texts to classify\(\)"):
        Classifier(build_head("tiny_distilbert_mood"), max_batch_tokens=4096).score([("a", "b")])
    for wrong in ("ab", ("a",), ("a", None), ("a", "b", "c"), None):
        with pytest.raises(SettingsError, match="pairs of two strings; number 1"):
            reranker.score([("a", "b"), wrong])  # type: ignore[list-item]
    with pytest.raises(SettingsError, match="scores two texts together and gives no vectors"):
        Encoder(bundle)
    with pytest.raises(SettingsError, match="scores two texts as they are"):
        Classifier(bundle, prompt_text="query: ")
    with pytest.raises(SettingsError, match="the best one counts"):
        Classifier(bundle, long_texts=LongTexts(OnLong.WINDOWS, combine=Combine.MEAN))
    with pytest.raises(SettingsError, match="split after any token"):
        Classifier(bundle, long_texts=LongTexts(OnLong.WINDOWS, windows_at=WindowsAt.SENTENCE))
    with pytest.raises(SettingsError, match="--rows window: a classifier has a row per text"):
        Classifier(build_head("tiny_distilbert_mood"), rows="window")
    with pytest.raises(SettingsError, match="not those of words"):
        Classifier(bundle, rows="word")


def test_what_is_not_offered_for_pairs_is_refused(
    build_pairs: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(build_pairs(pairs.RERANKER).path)
    (tmp_path / "t.txt").write_text("a\nb\n")
    np.save(tmp_path / "old.npy", np.zeros((2, 1), np.float32))
    texts = ["--texts", str(tmp_path / "t.txt")]
    assert main(["compare", place, *texts, "--expected", str(tmp_path / "old.npy")]) == 2
    assert "scores two texts together, and --texts has one per row" in capsys.readouterr().err
    assert main(["quantize", place, *texts, "--output", str(tmp_path / "int8")]) == 2
    assert "scores pairs of texts; int8 is offered for vectors" in capsys.readouterr().err
    assert not (tmp_path / "int8").exists()


def test_a_bundle_says_that_it_takes_two_texts(build_pairs: Build) -> None:
    from rich.console import Console

    bundle = build_pairs(pairs.RERANKER)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(page(bundle))
    assert re.search(
        r"takes +two texts at a time; of pairs that are too long, the longer one loses", shown.get()
    )
    assert set(bundle.manifest.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert "tokens: 4 golden texts give the recorded input" in list(verify(bundle.path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair_truncation": None}, "pair_truncation belongs to the task pairs"),
        ({"task": "classify"}, "pair_truncation belongs to the task pairs"),
        ({"tokenizer": {"kind": "text"}}, "needs a tokenizer of subwords, not text"),
    ],
)
def test_a_manifest_must_be_of_one_mind(changes: dict[str, Any], message: str, build_pairs: Build) -> None:
    manifest = build_pairs(pairs.RERANKER).manifest
    data = manifest.model_dump(mode="json") | changes
    with pytest.raises(ValueError, match=message):
        BundleManifest.model_validate(data)
    assert "pair_truncation" not in manifest.model_copy(update={"pair_truncation": None}).to_bytes().decode()


def test_a_damaged_golden_pair_is_an_error(build_pairs: Build) -> None:
    from model_bundle.runtime.golden import Golden, as_bytes

    bundle = build_pairs(pairs.RERANKER)
    with np.load(bundle.path / "golden.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    with pytest.raises((BundleFormatError, ValueError, TypeError)):
        Golden._of(arrays | {"texts": as_bytes(["a", "b", "c", "long"])}, bundle)


@pytest.mark.slow
def test_scores_of_a_cross_encoder_equal_those_of_sentence_transformers(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source", DATA_DIR / pairs.RERANKER)
    for path in (DATA_DIR / "cross_encoder").iterdir():
        shutil.copy(path, source / path.name)
    found = Classifier(built(tmp_path / "bundle", source), max_batch_tokens=4096).score(PAIRS)
    np.testing.assert_allclose(found.scores[:, 0], pairs.recorded("cross_encoder"), atol=1e-5)

"""Classes in memory: scores and labels as PyTorch and transformers have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_bundle.builders.bert.build import build_encoder_bundle
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import Rows
from model_bundle.errors import BundleFormatError, SettingsError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.scores import (
    LabelMode,
    best_first,
    class_logits,
    class_names,
    label_mode,
    scores_of,
)
from model_bundle.runtime.request import EncodeRequest
from tests.conftest import shared_path
from tests.support.models import heads


@pytest.mark.parametrize("model", heads.JUDGE_TEXTS)
def test_scores_of_texts_equal_pytorch(model: str, build_head: Callable[[str], ModelBundle]) -> None:
    golden = heads.expected(model)
    found = Classifier(build_head(model), max_batch_tokens=64, buffer_texts=4).classify(golden.texts)
    np.testing.assert_allclose(found.logits, golden.arrays["logits"], atol=1e-5)
    np.testing.assert_allclose(found.scores, golden.arrays["scores"], atol=1e-5)
    assert found.scores.dtype == np.float32
    assert found.labels == [found.names[index] for index in golden.arrays["scores"].argmax(axis=1)]
    assert found.row_texts.tolist() == list(range(len(golden.texts)))


@pytest.mark.parametrize("model", heads.JUDGE_TOKENS)
def test_scores_of_words_are_those_of_their_first_pieces(
    model: str, build_head: Callable[[str], ModelBundle]
) -> None:
    golden = heads.expected(model)
    found = Classifier(build_head(model), max_batch_tokens=64, buffer_texts=4).classify(golden.texts)
    assert found.words is not None
    for index, text in enumerate(golden.texts):
        own = found.row_texts == index
        starts = [
            (int(start), int(end))
            for start, end in zip(found.words.start[own], found.words.end[own], strict=True)
        ]
        pieces: dict[int, list[int]] = {}
        for place, (word, *_) in enumerate(golden.words[index]):
            if word is not None:
                pieces.setdefault(word, []).append(place)
        spans = golden.words[index]
        places = [p[0] for p in pieces.values() if text[spans[p[0]][1] : spans[p[-1]][2]].strip()]
        np.testing.assert_allclose(found.scores[own], golden.arrays["scores"][index][places], atol=1e-5)
        assert [text[start:end] for start, end in starts] == [
            word for word, mine in zip(found.words.words, own, strict=True) if mine
        ]


def test_labels_of_the_original_model_are_exact(tmp_path: Path) -> None:
    root = shared_path("fixtures/keras_legacy/dev/004/seqclass_save_pretrained")
    source = read_bert_source(str(root / "tf"), BertOptions(head=HeadOptions())).source
    found = Classifier(build_encoder_bundle(source, tmp_path / "b"))
    case = next(c for c in json.loads((root / "expected.json").read_text())["cases"] if c["name"] == "batch")
    logits = np.array(case["outputs"]["logits"])
    classes = found.classify(case["texts"])
    np.testing.assert_allclose(classes.logits, logits, atol=1e-5)
    assert classes.labels == [f"LABEL_{index}" for index in logits.argmax(axis=1)]


FINITE = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(logits=FINITE)
def test_scores_are_probabilities_in_the_order_of_the_logits(logits: np.ndarray) -> None:
    np.testing.assert_array_equal(scores_of(logits, "as_is"), logits)
    sigmoid, softmax = scores_of(logits, "sigmoid"), scores_of(logits, "softmax")
    for scores in (sigmoid, softmax):
        assert ((scores >= 0) & (scores <= 1)).all()
        best = best_first(logits, logits.shape[1])
        ranked = np.take_along_axis(scores, best, axis=1)
        assert (ranked[:, :-1] >= ranked[:, 1:]).all()
    np.testing.assert_allclose(softmax.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(sigmoid + scores_of(-logits, "sigmoid"), 1, atol=1e-6)


def test_equal_scores_are_ranked_by_place() -> None:
    assert best_first(np.array([[1.0, 3.0, 3.0, 2.0]], np.float32), 3).tolist() == [[1, 2, 3]]


def changed(manifest: BundleManifest, *, dim: int | None = None, **fields: object) -> BundleManifest:
    logits = manifest.outputs["logits"]
    outputs = {**manifest.outputs, "logits": logits.model_copy(update={"dim": dim or logits.dim})}
    return manifest.model_copy(update={"outputs": outputs, **fields})


def test_what_scores_are_for(build_head: Callable[[str], ModelBundle]) -> None:
    mood, topics, rating = (build_head(model).manifest for model in heads.JUDGE_TEXTS)
    assert [label_mode(manifest) for manifest in (mood, topics, rating)] == [
        LabelMode.SINGLE,
        LabelMode.MULTI,
        LabelMode.REGRESSION,
    ]
    assert label_mode(changed(mood, labels=("spam",), dim=1)) is LabelMode.REGRESSION
    assert class_names(changed(mood, labels=())) == ("LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.raises(BundleFormatError, match="has 2 labels, but its output has 3"):
        class_names(changed(mood, labels=("a", "b")))


@pytest.mark.parametrize(
    ("scores", "output", "expected"),
    [("sigmoid", 0.0, [0.5, 0.5]), ("as_is", 0.25, [0.75, 0.25]), ("softmax", 50.0, [0.0, 1.0])],
)
def test_one_output_for_two_labels(
    scores: str, output: float, expected: list[float], build_head: Callable[[str], ModelBundle]
) -> None:
    manifest = changed(
        build_head("tiny_distilbert_mood").manifest, labels=("no", "yes"), dim=1, scores=scores
    )
    logits = class_logits(np.array([[output]], np.float32), 2, manifest.scores)
    assert class_names(manifest) == ("no", "yes")
    np.testing.assert_allclose(scores_of(logits, manifest.scores), [expected], atol=1e-6)
    assert label_mode(manifest) is LabelMode.SINGLE


def test_what_cannot_be_classified_is_told(
    build_head: Callable[[str], ModelBundle], tiny_bundle: Path
) -> None:
    with pytest.raises(SettingsError, match="gives vectors, not classes"):
        Classifier(tiny_bundle)
    with pytest.raises(SettingsError, match="at most"):
        Classifier(build_head("tiny_bert_rating"), max_tokens=1000)
    tagger = build_head("tiny_bert_entities")
    assert EncodeRequest.resolve_classes(tagger).rows is Rows.WORD
    text = tagger.manifest.tokenizer.model_copy(update={"kind": "text"})
    blind = ModelBundle(tagger.path, tagger.manifest.model_copy(update={"tokenizer": text}), tagger.digest)
    with pytest.raises(SettingsError, match="classifies tokens produced inside its graph"):
        EncodeRequest.resolve_classes(blind)

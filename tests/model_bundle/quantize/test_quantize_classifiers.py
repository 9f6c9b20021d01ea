"""Classifiers in int8: their loss is that of labels and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import describe_quality
from model_bundle.bundle.specs import ClassQuality, Precision
from model_bundle.errors import SettingsError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.precision import quality_loss
from model_bundle.quantize.build import quantize_bundle
from model_bundle.quantize.class_quality import compare_classes
from model_bundle.quantize.search import Bounds
from model_bundle.text.sample_data import sample_texts

# Random weights decide between labels by a hair.
LOOSE = Bounds(same_labels=0.9)


def test_a_label_counts_as_changed_by_how_it_is_chosen() -> None:
    expected = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5], [0.9, 0.1]], np.float32)
    found = np.array([[0.4, 0.45], [0.3, 0.7], [0.5, 0.5], [0.9, 0.6]], np.float32)
    calibration = expected, expected
    one = compare_classes(found, expected, calibration, multi_label=False)
    several = compare_classes(found, expected, calibration, multi_label=True)
    assert (one.num_rows, one.same_labels, one.calibration_same_labels) == (4, 0.75, 1.0)
    assert several.same_labels == 0.5
    assert several.max_difference == pytest.approx(0.5)
    broken = compare_classes(found * np.nan, expected, calibration, multi_label=False)
    assert not Bounds(same_labels=0.0).allow(broken)
    assert not Bounds().allow(one)
    assert "same labels 75.00%" in describe_quality(one)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_distilbert_mood", "tiny_bert_entities"])
def test_classifiers_are_quantized_and_judge_as_in_float(
    build_head: Callable[[str], ModelBundle], tmp_path: Path, model: str
) -> None:
    texts = sample_texts(3)[:120]
    quantized = quantize_bundle(build_head(model), texts, tmp_path / "int8", bounds=LOOSE)
    assert quantized.manifest.int8 is not None
    quality = quantized.manifest.int8.quality[Precision.INT8]
    assert isinstance(quality, ClassQuality)
    assert quality_loss(quantized.manifest, Precision.INT8) == pytest.approx(100 * (1 - quality.same_labels))
    per_token = quantized.spec(quantized.manifest.default_output).per_token
    assert (quality.num_rows > 400) == per_token
    int8, plain = (
        Classifier(quantized, precision=precision, num_threads=1, max_batch_tokens=512)
        for precision in ("int8", "float32")
    )
    one, other = int8.classify(texts), plain.classify(texts)
    assert (np.array(one.labels) == np.array(other.labels)).mean() > 0.9
    assert 0 < np.abs(one.scores - other.scores).max() < 0.1


def test_quantities_are_refused(build_head: Callable[[str], ModelBundle], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="computes quantities"):
        quantize_bundle(build_head("tiny_bert_rating"), sample_texts(3), tmp_path / "none")

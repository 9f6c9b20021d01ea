"""Equal models are equal bytes, whatever their process did before, and still compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from model_bundle.builders.bert.build import build_encoder_bundle
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.inference.encoder import Encoder
from tests.conftest import DATA_DIR


def test_a_second_build_in_the_same_process_has_the_same_digest(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    first = build_tiny("tiny_roberta")
    again = read_bert_source(str(DATA_DIR / "tiny_roberta"), BertOptions()).source
    assert build_encoder_bundle(again, tmp_path / "again").manifest == first.manifest


def test_models_that_ran_in_another_precision_before_leave_no_trace(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    """What is off has been switched off: TensorFlow writes that into every call, unlike what never was on."""
    import tensorflow as tf

    first = build_tiny("tiny_roberta")
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": False})
    again = read_bert_source(str(DATA_DIR / "tiny_roberta"), BertOptions()).source
    assert build_encoder_bundle(again, tmp_path / "again").manifest == first.manifest


def test_bundles_whose_functions_have_the_same_names_do_not_mix(
    build_tiny: Callable[[str], ModelBundle],
) -> None:
    texts = ["the cat sat", "on the mat", ""]
    bundles = [build_tiny("tiny_bert"), build_tiny("tiny_distilbert")]
    alone = [Encoder(bundle).encode(texts) for bundle in bundles]
    assert not np.allclose(*alone, atol=0.1)
    for bundle, expected in reversed(list(zip(bundles, alone, strict=True))):
        np.testing.assert_array_equal(Encoder(bundle).encode(texts), expected)

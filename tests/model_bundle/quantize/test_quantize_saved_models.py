"""SavedModels of other makers in int8: what they compute, what is refused and why, and what is stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.graph_scan.scan import scan_folder
from model_bundle.bundle.manifest import SAVED_MODEL_DIR
from model_bundle.bundle.specs import ClassQuality, InputSpec, Precision
from model_bundle.errors import GoldenMismatchError, SettingsError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.precision import choose_precision
from model_bundle.inference.verify import verify
from model_bundle.quantize.build import quantize_bundle
from model_bundle.quantize.gain import measure_gain
from model_bundle.quantize.search import Bounds
from model_bundle.runtime.golden import Golden
from tests.model_bundle.quantize.test_quantize import some_texts
from tests.support.models.encoder_forms import build_encoder_of_others
from tests.support.models.tiny import build_text_bundle

# Models of a test are too small to gain.
ANY_GAIN = Bounds(min_gain=0.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return build_encoder_of_others(tmp_path_factory.mktemp("others") / "float")


@pytest.fixture(scope="module")
def quantized(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return quantize_bundle(
        bundle, some_texts(60), tmp_path_factory.mktemp("others") / "int8", bounds=ANY_GAIN
    )


def encode(bundle: ModelBundle, precision: str, texts: list[str]) -> np.ndarray:
    encoder = Encoder(bundle, precision=precision, num_threads=1, max_batch_tokens=256)
    assert encoder.runtime.unfrozen_reason is None  # on constants, packed once
    return encoder.encode(texts)


@pytest.mark.slow
def test_int8_is_close_to_float_and_float_is_as_before(bundle: ModelBundle, quantized: ModelBundle) -> None:
    texts = some_texts(30, seed=9)
    before = encode(bundle, "float32", texts)
    np.testing.assert_array_equal(encode(quantized, "float32", texts), before)
    int8 = encode(quantized, "int8", texts)
    cosines = (int8 * before).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-6  # not float under another name
    # A text's vector does not depend on its neighbours: scales are constants.
    alone = np.concatenate([encode(quantized, "int8", [text]) for text in texts[:2]])
    assert (alone * int8[:2]).sum(axis=1).min() > 0.9999

    spec = quantized.manifest.int8
    assert spec is not None
    assert (spec.signature, spec.narrow_signature, spec.mixed_signature) == (
        "serving_int8",
        "serving_int7",
        None,
    )
    assert spec.quality.keys() == {Precision.INT8, Precision.INT7}
    scan_folder(quantized.path / SAVED_MODEL_DIR, "the bundle", ())
    assert (
        choose_precision(quantized.manifest, 100, [Precision.INT8, Precision.FLOAT32], {}) is Precision.INT8
    )


@pytest.mark.slow
def test_golden_vectors_are_of_int8(quantized: ModelBundle) -> None:
    golden = Golden.read(quantized)
    assert set(golden.integer[Precision.INT8]) == set(quantized.manifest.outputs)
    encoder = Encoder(quantized, precision="int8", num_threads=1)
    wrong = {name: -array for name, array in golden.integer[Precision.INT8].items()}
    with pytest.raises(GoldenMismatchError):
        dataclasses.replace(golden, integer={Precision.INT8: wrong}).check(
            encoder.runtime.run, encoder.runtime.request
        )


@pytest.mark.slow
def test_every_precision_verifies_and_equal_bundles_are_equal(
    bundle: ModelBundle, quantized: ModelBundle, tmp_path: Path
) -> None:
    lines = "\n".join(verify(quantized.path))
    assert "int8: " in lines
    assert "int7: " in lines
    again = quantize_bundle(bundle, some_texts(60), tmp_path / "again", bounds=ANY_GAIN)
    assert again.digest == quantized.digest
    texts = some_texts(20, seed=4)
    cosines = (encode(quantized, "int7", texts) * encode(quantized, "float32", texts)).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-6


@pytest.mark.slow
def test_a_bundle_of_int8_alone_has_no_float_products(bundle: ModelBundle, tmp_path: Path) -> None:
    alone = quantize_bundle(bundle, some_texts(60), tmp_path / "alone", bounds=ANY_GAIN, only_int8=True)
    texts = some_texts(20, seed=8)
    found = encode(alone, "int8", texts)
    assert (found * encode(bundle, "float32", texts)).sum(axis=1).min() > 0.99
    sizes = [
        sum(file.size for file in each.manifest.files if "variables.data" in file.path)
        for each in (bundle, alone)
    ]
    # Word embeddings, half of so small a model, stay as they were.
    assert sizes[1] < 0.7 * sizes[0]
    (signatures,) = [line for line in verify(alone.path) if line.startswith("signatures: ")]
    assert signatures.startswith("signatures: serving_int8 ")
    with pytest.raises(SettingsError, match="int8 weights alone"):
        Encoder(alone, precision="float32")


@pytest.mark.slow
def test_a_classifier_keeps_its_labels(tmp_path: Path) -> None:
    plain = build_encoder_of_others(tmp_path / "float", "einsum", task="classify")
    quantized = quantize_bundle(plain, some_texts(60), tmp_path / "int8", bounds=ANY_GAIN)
    assert quantized.manifest.int8 is not None
    quality = quantized.manifest.int8.quality[Precision.INT8]
    assert isinstance(quality, ClassQuality)
    texts = some_texts(30, seed=2)
    scores = [
        Classifier(quantized, precision=precision, num_threads=1, max_batch_tokens=256).classify(texts).scores
        for precision in ("int8", "float32")
    ]
    assert 1e-6 < np.abs(scores[0] - scores[1]).max() < 0.1


# One channel of the states is some thousand times larger than the others, in every layer.
@pytest.mark.slow
def test_activations_that_defeat_int8_are_refused_with_figures(tmp_path: Path) -> None:
    bundle = build_encoder_of_others(tmp_path / "float", "flat", outlier=3000.0)
    with pytest.raises(SettingsError, match=r"costs too much .*: cosine 0\.\d+ .*Largest errors of layers: "):
        quantize_bundle(bundle, some_texts(36), tmp_path / "refused", bounds=ANY_GAIN)
    assert not (tmp_path / "refused").exists()
    assert choose_precision(bundle.manifest, 1.0, list(Precision), {}) is Precision.FLOAT32


def test_a_model_without_large_products_is_refused(tmp_path: Path) -> None:
    plain = build_text_bundle(tmp_path / "lengths")
    bundle = dataclasses.replace(plain, manifest=plain.manifest.model_copy(update={"family": "hub"}))
    with pytest.raises(SettingsError, match="no product with a constant matrix of at least 64 x 64"):
        quantize_bundle(bundle, some_texts(40), tmp_path / "int8")


def test_what_gains_nothing_is_refused_with_the_times() -> None:
    clock = iter(np.cumsum([0.0, *([0.0102, 0.0, 0.01, 0.0] * 6)]).tolist())

    def slow_clock() -> float:
        return next(clock)

    with pytest.raises(
        SettingsError, match=r"gains too little for m: .* 10\.2 ms in float32, 10\.0 ms in int8: 1/1\.02"
    ):
        measure_gain("m", Precision.INT8, [dict, dict], {}, 1.1, slow_clock)
    clock = iter(np.cumsum([0.0, *([0.03, 0.0, 0.01, 0.0] * 6)]).tolist())
    assert "1/3.00" in measure_gain("m", Precision.INT8, [dict, dict], {}, 1.1, slow_clock)


@pytest.mark.slow
def test_numbers_beside_the_text_and_a_second_time_are_refused(
    bundle: ModelBundle, quantized: ModelBundle, tmp_path: Path
) -> None:
    inputs = {**bundle.manifest.inputs, "age": InputSpec(role="numeric", dtype="float32", columns=("age",))}
    numeric = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"inputs": inputs}))
    with pytest.raises(SettingsError, match=r"takes numbers \(age\)"):
        quantize_bundle(numeric, some_texts(40), tmp_path / "int8")
    with pytest.raises(SettingsError, match="quantized before"):
        quantize_bundle(quantized, some_texts(40), tmp_path / "int8")

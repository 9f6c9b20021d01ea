"""A bundle with an int8 graph: what it computes, where, and when it is refused."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_bundle.base.machine import has_fast_bfloat16
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision
from model_bundle.errors import GoldenMismatchError, SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.precision import choose_precision
from model_bundle.inference.verify import verify
from model_bundle.quantize.bert.read_encoder import read_encoder
from model_bundle.quantize.build import quantize_bundle
from model_bundle.runtime import int8_products
from model_bundle.runtime.golden import Golden
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from tests.support.models.tiny import build_tiny_bundle

WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "home", "quick", "brown", "and", "time")


def some_texts(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(2, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return build_tiny_bundle(tmp_path_factory.mktemp("int8") / "float", num_layers=1)


@pytest.fixture(scope="module")
def quantized(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return quantize_bundle(bundle, some_texts(60), tmp_path_factory.mktemp("int8") / "int8")


def test_int8_is_close_to_float_and_float_is_as_before(bundle: ModelBundle, quantized: ModelBundle) -> None:
    texts = some_texts(40, seed=9)
    before = Encoder(bundle, num_threads=1, max_batch_tokens=256).encode(texts)
    after = Encoder(quantized, num_threads=1, max_batch_tokens=256).encode(texts)
    np.testing.assert_allclose(after, before, atol=1e-5)
    int8 = Encoder(quantized, precision="int8", num_threads=1, max_batch_tokens=256)
    assert int8.runtime.unfrozen_reason is None  # on constants, packed once
    cosines = (int8.encode(texts) * before).sum(axis=1)
    assert cosines.min() > 0.99
    assert cosines.max() < 1 - 1e-6  # not float under another name

    # A text's vector does not depend on its neighbours: scales are constants. Attention and norms are float,
    # so their last digits may round a value to the next step.
    alone = np.concatenate([int8.encode([text]) for text in texts[:8]])
    assert (alone * int8.encode(texts)[:8]).sum(axis=1).min() > 0.9999

    spec = quantized.manifest.int8
    assert spec is not None
    quality = spec.quality[Precision.INT8]
    assert quality.num_texts == 20
    assert quality.min_cosine > 0.99


@pytest.mark.skipif(not has_fast_bfloat16(), reason="quantized without it on this processor")
def test_attention_in_bfloat16_is_a_precision_of_its_own(quantized: ModelBundle) -> None:
    assert quantized.manifest.signature_of(Precision.INT8_BFLOAT16) == "serving_int8_bfloat16"
    assert quantized.manifest.int8 is not None
    assert quantized.manifest.int8.quality[Precision.INT8_BFLOAT16].min_cosine > 0.99
    texts = some_texts(20, seed=9)
    int8 = Encoder(quantized, precision="int8", num_threads=1, max_batch_tokens=256).encode(texts)
    mixed = Encoder(quantized, precision="int8_bfloat16", num_threads=1, max_batch_tokens=256)
    assert mixed.runtime.unfrozen_reason is None
    found = mixed.encode(texts)
    cosines = (found * int8).sum(axis=1)
    assert cosines.min() > 0.99
    assert cosines.min() < 1 - 1e-7  # not int8 under another name
    alone = np.concatenate([mixed.encode([text]) for text in texts[:8]])
    assert (alone * found[:8]).sum(axis=1).min() > 0.9999
    golden = Golden.read(quantized)
    wrong = {name: -array for name, array in golden.integer[Precision.INT8_BFLOAT16].items()}
    broken = dataclasses.replace(golden, integer={**golden.integer, Precision.INT8_BFLOAT16: wrong})
    with pytest.raises(GoldenMismatchError):
        broken.check(mixed.runtime.run, mixed.runtime.request)


def test_the_shape_is_read_back(bundle: ModelBundle) -> None:
    config, weights, _ = read_encoder(bundle)
    assert (config.num_layers, config.num_heads, config.dim, config.inner_dim) == (1, 2, 16, 32)
    assert (config.activation, config.pooler_activation, config.norm_epsilon) == (
        "gelu",
        "tanh",
        pytest.approx(1e-12),
    )
    assert weights["layer_0/attention/key/kernel"].shape == (16, 16)


# One channel is a thousand times larger than the others, so that its steps are wider than their values. With
# one layer, leaving it in float is a third of the model.
def test_a_model_whose_activations_defeat_int8_is_refused_with_figures(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "float", num_layers=1, outlier=1000.0, inner_dim=64)
    expected = r"costs too much .*: cosine 0\.\d+ \(lowest .*Largest errors of layers: layer_0/ffn/outer \(\d"
    with pytest.raises(SettingsError, match=expected):
        quantize_bundle(bundle, some_texts(40), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


@pytest.mark.slow
def test_layers_that_cost_too_much_stay_float(tmp_path: Path) -> None:
    bundle = build_tiny_bundle(tmp_path / "float", outlier=1000.0)
    quantized = quantize_bundle(bundle, some_texts(60), tmp_path / "int8")
    assert quantized.manifest.int8 is not None
    assert quantized.manifest.int8.float_layers == ("layer_0/ffn/outer", "layer_1/ffn/outer")
    texts = some_texts(20, seed=5)
    int8 = Encoder(quantized, precision="int8", num_threads=1, max_batch_tokens=256).encode(texts)
    plain = Encoder(bundle, num_threads=1, max_batch_tokens=256).encode(texts)
    assert (int8 * plain).sum(axis=1).min() > 0.99


def test_few_texts_are_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"at least 32 texts .* got 3"):
        quantize_bundle(bundle, ["a", "b", "c"], tmp_path / "none")


def test_a_bundle_without_int8_says_how_to_get_it(bundle: ModelBundle) -> None:
    with pytest.raises(SettingsError, match="model_bundle quantize BUNDLE"):
        EncodeRequest.resolve(bundle, precision=Precision.INT8)


def test_a_processor_whose_sums_saturate_is_refused(
    quantized: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = int8_products.largest_sums()
    assert np.abs(exact - 127 * 127 * 512).max() < 10
    # Two products of 8 bits, added in 16: 32,767 of 32,258 fit, but not those shifted to unsigned.
    monkeypatch.setattr(int8_products, "largest_sums", lambda _: np.minimum(exact, 512 / 2 * 32767 * 0.9))
    with pytest.raises(GoldenMismatchError, match="saturate on this processor"):
        TensorFlowRuntime(quantized, EncodeRequest.resolve(quantized, precision=Precision.INT8), 1)


def test_int8_vectors_are_checked_against_those_of_the_build(quantized: ModelBundle) -> None:
    golden = Golden.read(quantized)
    assert set(golden.integer[Precision.INT8]) == set(quantized.manifest.outputs)
    request = EncodeRequest.resolve(quantized, precision=Precision.INT8)
    wrong = {name: -array for name, array in golden.integer[Precision.INT8].items()}
    broken = dataclasses.replace(golden, integer={Precision.INT8: wrong})
    runtime = TensorFlowRuntime(quantized, request, 1)
    golden.check(runtime.run, request)
    with pytest.raises(GoldenMismatchError):
        broken.check(runtime.run, request)


# oneDNN reads the variable once, when it is loaded. It then adds products in 16 bits, as without VNNI: the
# sums of int8 saturate.
WITHOUT_VNNI = """
import sys
import numpy as np
from model_bundle.errors import GoldenMismatchError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.precision import choose_precision
from model_bundle.inference.verify import verify
place, texts, output = sys.argv[1:]
lines = open(texts).read().splitlines()
encoder = Encoder(place, precision="int7", num_threads=1, max_batch_tokens=256)
assert encoder.runtime.unfrozen_reason is None, encoder.runtime.unfrozen_reason
np.save(output, encoder.encode(lines))
try:
    Encoder(place, precision="int8", num_threads=1, max_batch_tokens=256)
except GoldenMismatchError as error:
    print(error)
"""


def test_weights_of_7_bits_are_those_of_the_float_bundle_rounded(quantized: ModelBundle) -> None:
    spec = quantized.manifest.int8
    assert spec is not None
    assert spec.narrow_signature == "serving_int7"
    seven, eight = spec.quality[Precision.INT7], spec.quality[Precision.INT8]
    assert 0.99 < seven.min_cosine < eight.min_cosine
    texts = some_texts(20, seed=4)
    both = [
        Encoder(quantized, precision=precision, num_threads=1, max_batch_tokens=256).encode(texts)
        for precision in ("int7", "float32")
    ]
    cosines = (both[0] * both[1]).sum(axis=1)
    assert 0.99 < cosines.min() < 1 - 1e-6


@pytest.mark.slow
def test_a_processor_without_vnni_computes_the_same_in_7_bits(quantized: ModelBundle, tmp_path: Path) -> None:
    texts = some_texts(40, seed=3)
    (tmp_path / "texts").write_text("\n".join(texts))
    arguments = [str(quantized.path), str(tmp_path / "texts"), str(tmp_path / "found.npy")]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VNNI, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "saturate on this processor" in done.stdout
    assert "Use int7 here" in done.stdout
    here = Encoder(quantized, precision="int7", num_threads=1, max_batch_tokens=256).encode(texts)
    assert (np.load(tmp_path / "found.npy") * here).sum(axis=1).min() > 0.9999


@pytest.mark.slow
def test_a_bundle_of_int8_alone_is_small_and_has_no_other_precision(
    bundle: ModelBundle, quantized: ModelBundle, tmp_path: Path
) -> None:
    alone = quantize_bundle(bundle, some_texts(60), tmp_path / "alone", only_int8=True)
    assert alone.manifest.bfloat16_signature is None
    sizes = [
        sum(file.size for file in each.manifest.files if "variables.data" in file.path)
        for each in (bundle, alone)
    ]
    # Norms, positions and the pooler stay float, and are half of so small a model.
    assert sizes[1] < 0.6 * sizes[0]
    again = ModelBundle.open(f"{alone.path}@sha256:{alone.digest}")
    lines = list(verify(again.path))
    # With bfloat16 beside it on a processor that has both.
    (signatures,) = [line for line in lines if line.startswith("signatures: ")]
    assert signatures.startswith("signatures: serving_int8")
    assert "default" not in signatures
    assert any(line.startswith("int8: ") and "golden vectors" in line for line in lines)
    assert not any(line.startswith("float32") for line in lines)
    texts = some_texts(30, seed=8)
    found = Encoder(again, precision="int8", num_threads=1, max_batch_tokens=256).encode(texts)
    plain = Encoder(bundle, num_threads=1, max_batch_tokens=256).encode(texts)
    assert (found * plain).sum(axis=1).min() > 0.99
    for precision in ("float32", "bfloat16", "int7"):
        with pytest.raises(SettingsError, match="int8 weights alone"):
            Encoder(again, precision=precision)
    with pytest.raises(SettingsError, match="int8 weights alone"):
        quantize_bundle(again, some_texts(60), tmp_path / "again")
    assert choose_precision(again.manifest, 0.0, [Precision.FLOAT32], {}) is Precision.INT8
    assert not quantized.manifest.is_int8_only

"""ELMo in int8: the products of its LSTMs, read back from a bundle, rounded at every step."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision
from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.quantize.build import quantize_bundle
from model_bundle.quantize.elmo.read_elmo import read_elmo
from model_bundle.quantize.search import Bounds
from tests.model_bundle.quantize.test_quantize import some_texts
from tests.support.models.tiny_elmo import OPTIONS, write_bilm

# So small a model gains nothing.
ANY_GAIN = Bounds(min_gain=0.0)


def encode(bundle: ModelBundle, precision: str, texts: list[str]) -> np.ndarray:
    """The mean of the last layer, which all products enter."""
    return Encoder(
        bundle,
        layers=("lstm_outputs2",),
        precision=precision,
        normalize=True,
        num_threads=1,
        max_batch_tokens=256,
    ).encode(texts)


@pytest.mark.slow
def test_states_stay_close_through_every_step(tiny_elmo: Path, tmp_path: Path) -> None:
    bundle = ModelBundle.open(tiny_elmo)
    quantized = quantize_bundle(bundle, some_texts(45), tmp_path / "int8", bounds=ANY_GAIN)
    assert quantized.manifest.bfloat16_signature == bundle.manifest.bfloat16_signature
    spec = quantized.manifest.int8
    assert spec is not None
    assert (spec.mixed_signature, spec.float_layers) == (None, ())
    assert spec.quality.keys() == {Precision.INT8, Precision.INT7, Precision.BFLOAT16}

    texts = some_texts(20, seed=9)
    by_precision = {
        precision: encode(quantized, precision, texts) for precision in ("float32", "int8", "int7")
    }
    plain = encode(bundle, "float32", texts)
    np.testing.assert_allclose(by_precision["float32"], plain, atol=1e-6)
    for precision in ("int8", "int7"):
        cosines = (by_precision[precision] * plain).sum(axis=1)
        assert 0.999 < cosines.min() < 1 - 1e-9, precision
    alone = np.concatenate([encode(quantized, "int8", [text]) for text in texts[:2]])
    assert (alone * by_precision["int8"][:2]).sum(axis=1).min() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "adds", "cell", "projection"),
    [("tanh", False, None, 3), ("relu", True, 2, None)],
)
def test_any_published_shape_is_read_back(
    tmp_path: Path, activation: str, adds: bool, cell: int | None, projection: int | None
) -> None:
    options = copy.deepcopy(OPTIONS)
    options["char_cnn"]["activation"] = activation
    options["lstm"] |= {"use_skip_connections": adds, "cell_clip": cell, "proj_clip": projection}
    bundle = build_elmo_bundle(*write_bilm(tmp_path / "files", options), ElmoChoices(), tmp_path / "elmo")
    found = read_elmo(bundle).options
    assert (found.activation, found.use_skip_connections) == (activation, adds)
    assert (found.cell_clip, found.projection_clip) == (cell, projection)
    assert (found.filters, found.max_characters, found.num_highways) == (((1, 3), (3, 5)), 20, 1)


def test_int8_alone_is_not_offered(tiny_elmo: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="characters stay float"):
        quantize_bundle(ModelBundle.open(tiny_elmo), some_texts(40), tmp_path / "none", only_int8=True)

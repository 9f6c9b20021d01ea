"""The bundle elmo-mini: the files of bilm it was built from give the same vectors, computed by NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.measures import spearman, unit
from benchmarks.quality import read_sts
from model_bundle import Encoder, ModelBundle
from model_bundle.builders.elmo.bilm_files import read_options, read_weights
from model_bundle.bundle.digest import sha256_of
from recipes.elmo_mini.export import NAME, OPTIONS_FILE, WEIGHTS_FILE, build_bundle
from recipes.elmo_mini.shape import SHAPE
from recipes.elmo_mini.words import split
from tests.conftest import shared_path
from tests.support.models.elmo_reference import encode

FILES = Path(__file__).parents[2] / "recipes" / "elmo_mini" / "bilm"
TEXTS = [
    "The bank of the river was muddy.",
    "Unforgettably, a well-known pseudo-antidisestablishmentarianist spoke!",
    "Où est l'hôtel?",
    "ok",
]
# Spearman on the development set of the STS benchmark, as the model card has it.
MEASURED = 0.7195
# float32 against float64: whitening magnifies rounding in directions in which words hardly differ.
AGREE = 3e-5
LAYERS = ("word_emb", "lstm_outputs1", "lstm_outputs2")


def reference() -> list[list[np.ndarray]]:
    """Layers of each text in float64, from the files alone."""
    options: dict[str, Any] = json.loads((FILES / OPTIONS_FILE).read_text())
    weights = read_weights(FILES / WEIGHTS_FILE)
    return [encode(options, weights, words) for words in split(TEXTS)]


def test_the_files_and_the_bundle_agree() -> None:
    bundle = ModelBundle.open(NAME)
    mix = bundle.manifest.elmo
    assert mix is not None
    assert mix.layer_weights is not None
    assert sum(mix.layer_weights) == pytest.approx(1.0, abs=1e-5)
    expected = [
        np.tensordot(mix.layer_weights, np.stack(layers), axes=1).mean(axis=0) for layers in reference()
    ]
    np.testing.assert_allclose(Encoder(bundle).encode(TEXTS), np.array(expected), atol=AGREE)


def test_every_layer_of_every_word_agrees() -> None:
    found = Encoder(NAME, rows="word", layers=LAYERS).encode_outputs(TEXTS)
    expected = reference()
    for number, name in enumerate(LAYERS):
        words = np.concatenate([layers[number] for layers in expected])
        np.testing.assert_allclose(found[name], words[:, : found[name].shape[1]], atol=AGREE)


def test_the_bundle_was_built_from_these_files_and_is_small() -> None:
    bundle = ModelBundle.open(NAME)
    manifest = bundle.manifest
    files = {name: sha256_of(FILES / name) for name in (OPTIONS_FILE, WEIGHTS_FILE)}
    assert (manifest.source.kind, manifest.source.files) == ("bilm", files)
    assert (manifest.licence, manifest.tokenizer.word_split) == ("Apache-2.0", "unicode")
    assert read_options(FILES / OPTIONS_FILE) == SHAPE
    assert sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()) <= 8_000_000


@pytest.mark.slow
def test_building_again_gives_the_same_vectors(tmp_path: Path) -> None:
    again = Encoder(build_bundle(FILES, tmp_path / "again"))
    np.testing.assert_allclose(again.encode(TEXTS), Encoder(NAME).encode(TEXTS), atol=1e-6)


@pytest.mark.slow
def test_its_vectors_know_what_texts_are_about() -> None:
    first, second, scores = read_sts(shared_path("data/stsb_en_dev.csv.gz").parent)
    vectors = unit(Encoder(NAME).encode(first + second))
    found = spearman((vectors[: len(first)] * vectors[len(first) :]).sum(axis=1), scores)
    assert found >= MEASURED - 0.005

"""Files of bilm to a bundle that the encoder and the command line use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle, final_layer_weights
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.cli.main import main
from model_bundle.errors import SourceError, WeightsMismatchError
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.batch_size import RECURRENT_BATCH_TOKENS
from tests.support.models import elmo_reference as reference
from tests.support.models.tiny_elmo import OPTIONS, write_bilm

Open = Callable[..., Encoder]
TEXTS = ["a text of six words here", "another one ", "x"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_bilm(tmp_path_factory.mktemp("bilm"))


@pytest.fixture(scope="module")
def bundle(tiny_elmo: Path) -> ModelBundle:
    return ModelBundle.open(tiny_elmo)


def layers(text: str) -> list[np.ndarray]:
    return reference.encode(OPTIONS, reference.random_model(OPTIONS, seed=3), text.split())


def test_documents(bundle: ModelBundle) -> None:
    names = ("elmo", "word_emb", "lstm_outputs1", "lstm_outputs2")
    found = Encoder(bundle, layers=names).encode_outputs(TEXTS)
    for index, text in enumerate(TEXTS):
        words, first, second = layers(text)
        expected = {"word_emb": words[:, :6], "lstm_outputs1": first, "lstm_outputs2": second}
        expected["elmo"] = (words + first + second) / 3
        for name, states in expected.items():
            np.testing.assert_allclose(found[name][index], states.mean(axis=0), atol=3e-6)


@pytest.mark.parametrize(
    ("pooling", "position"), [pytest.param("first", 0, marks=pytest.mark.slow), ("last", -1)]
)
def test_pooling(bundle: ModelBundle, pooling: str, position: int) -> None:
    found = Encoder(bundle, pooling=pooling).encode(TEXTS)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(found[index], np.mean(layers(text), axis=0)[position], atol=3e-6)


def test_a_row_for_every_word(tiny_elmo: Path, open_encoder: Open) -> None:
    found = open_encoder(tiny_elmo, rows="word").encode(TEXTS)
    expected = np.concatenate([np.mean(layers(text), axis=0) for text in TEXTS])
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_its_batches_are_not_measured_but_large(
    bundle: ModelBundle, tiny_elmo: Path, open_encoder: Open
) -> None:
    assert open_encoder(tiny_elmo).max_batch_tokens == RECURRENT_BATCH_TOKENS
    assert Encoder(bundle, max_batch_tokens=64).max_batch_tokens == 64


def test_bfloat16(bundle: ModelBundle, tiny_elmo: Path, open_encoder: Open) -> None:
    exact = open_encoder(tiny_elmo).encode(TEXTS)
    fast = Encoder(bundle, precision="bfloat16").encode(TEXTS)
    cosine = (exact * fast).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(exact - fast).max() > 1e-5


@pytest.mark.slow
def test_a_second_build_has_the_same_digest(
    files: tuple[Path, Path], bundle: ModelBundle, tmp_path: Path
) -> None:
    assert build_elmo_bundle(*files, ElmoChoices(), tmp_path / "again").digest == bundle.digest


@pytest.mark.slow
def test_the_command_records_what_was_chosen(files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "chosen"
    flags = ["--options", str(files[0]), "--weights", str(files[1]), "--output", str(output)]
    flags += ["--layer_logits", "0,0.5,-1", "--gamma", "2", "--no_boundaries", "--word_split", "unicode"]
    assert main(["build", "elmo", *flags, "--name", "tiny", "--licence", "MIT"]) == 0
    manifest = ModelBundle.open(output).manifest
    assert (manifest.name, manifest.licence, manifest.tokenizer.word_split) == ("tiny", "MIT", "unicode")
    assert manifest.elmo is not None
    assert not manifest.elmo.boundaries
    assert set(manifest.source.files) == {"options.json", "weights.hdf5"}
    weights = np.exp([0, 0.5, -1]) / np.exp([0, 0.5, -1]).sum()
    np.testing.assert_allclose(manifest.elmo.layer_weights, weights)
    arrays = reference.random_model(OPTIONS, seed=3)
    states = reference.encode(OPTIONS, arrays, ["Hi", ",", "you"], boundaries=False)
    expected = 2 * np.tensordot(weights, states, axes=1).mean(axis=0)
    np.testing.assert_allclose(Encoder(output).encode(["Hi, you"])[0], expected, atol=5e-6)


def test_factors_are_taken_as_they_are() -> None:
    assert final_layer_weights(ElmoChoices(layer_weights=(1.0, -2.0, 0.0)), 3) == (1.0, -2.0, 0.0)
    assert final_layer_weights(ElmoChoices(), 4) == (0.25,) * 4
    assert final_layer_weights(ElmoChoices(layer_logits=(1e4, 0.0)), 2) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (
            ElmoChoices(layer_weights=(1.0, 2.0)),
            r"--layer_weights has 2 numbers, expected 3: .* 2 LSTM layers",
        ),
        (ElmoChoices(layer_logits=(1.0,) * 4), "--layer_logits has 4 numbers, expected 3"),
        (ElmoChoices(layer_weights=(1.0, float("nan"), 0.0)), "--layer_weights: 1.0, nan, 0.0 is not finite"),
        (ElmoChoices(gamma=float("inf")), "--gamma: inf is not finite"),
        (ElmoChoices(layer_weights=(1.0,) * 3, layer_logits=(0.0,) * 3), "use one of them"),
    ],
)
def test_choices_that_do_not_fit(
    choices: ElmoChoices, says: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=says):
        build_elmo_bundle(*files, choices, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_files_of_different_models(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = {**OPTIONS, "lstm": {**OPTIONS["lstm"], "dim": 9}}
    (tmp_path / "options.json").write_text(json.dumps(other))
    with pytest.raises(WeightsMismatchError, match=r"stored \(12, 28\), expected \(12, 36\)"):
        build_elmo_bundle(tmp_path / "options.json", files[1], ElmoChoices(), tmp_path / "none")


def test_the_command_refuses_numbers_that_are_none(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--options", str(files[0]), "--weights", str(files[1]), "--output", str(tmp_path / "none")]
    assert main(["build", "elmo", *flags, "--layer_weights", "1;2;3"]) == 2
    assert "expected numbers between commas" in capsys.readouterr().err

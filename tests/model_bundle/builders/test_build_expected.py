"""Bundles that are made only if they reproduce reference vectors, and checked against them ever after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision
from model_bundle.cli.main import main
from model_bundle.errors import GoldenMismatchError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.runtime.golden import GOLDEN_TEXTS, Golden
from model_bundle.runtime.request import EncodeRequest
from tests.conftest import DATA_DIR
from tests.support.models.tiny_elmo import LONG_WORDS, write_bilm

Build = Callable[[str], ModelBundle]
TEXTS = ["the cat sat on the mat.", "Zürich!", "one of many words", "until it is over " * 40, "a"]


def files(tmp_path: Path, vectors: np.ndarray) -> list[str]:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    np.save(tmp_path / "old.npy", vectors)
    return ["--texts", str(tmp_path / "texts.txt"), "--expected", str(tmp_path / "old.npy")]


def build_bert(tmp_path: Path, vectors: np.ndarray, *flags: str) -> int:
    source, output = str(DATA_DIR / "tiny_bert"), str(tmp_path / "out" / "bundle")
    return main(["build", "bert", source, "--output", output, *flags, *files(tmp_path, vectors)])


def test_old_vectors_become_golden_ones(
    tmp_path: Path, build_tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Encoder(build_tiny("tiny_bert"), pooling="first").encode(TEXTS).astype(np.float16)
    assert build_bert(tmp_path, old, "--pooling", "first") == 0
    printed = capsys.readouterr().out
    bundle = ModelBundle.open(tmp_path / "out" / "bundle")
    assert f"digest: sha256:{bundle.digest}" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]  # nothing temporary is left
    golden = Golden.read(bundle)
    assert golden.reference is not None
    kept = dict(zip(golden.texts, golden.reference.vectors, strict=False))
    assert len(kept) == 4
    assert golden.texts[4:] == GOLDEN_TEXTS
    for text, vector in kept.items():
        np.testing.assert_array_equal(vector, old[TEXTS.index(text)])
    assert TEXTS[3] not in kept  # too long to keep all its states
    assert main(["verify", str(bundle.path)]) == 0
    np.testing.assert_allclose(Encoder(bundle).encode(TEXTS), old, atol=0.01)


def test_a_load_that_gives_others_is_refused(tmp_path: Path, build_tiny: Build) -> None:
    """The model's own golden vectors agree with what it gives; the old ones do not, and decide."""
    old = Encoder(build_tiny("tiny_bert"), pooling="first").encode(TEXTS)
    assert build_bert(tmp_path, old, "--pooling", "first") == 0
    bundle = ModelBundle.open(tmp_path / "out" / "bundle")
    golden = Golden.read(bundle)
    for precision, fine, off in ((Precision.FLOAT32, 1.0, 1.05), (Precision.BFLOAT16, 1.05, 1.5)):
        request = EncodeRequest.resolve(bundle, precision=precision)
        first = {"states_2": golden.outputs["states_2"][:, 0]}
        assert golden.reference is not None
        golden.reference.check(first["states_2"] * fine, precision)
        with pytest.raises(GoldenMismatchError, match="reference vectors"):
            golden.check(lambda _, off=off, first=first: {"states_2": first["states_2"] * off}, request)  # type: ignore[misc]


def test_a_model_that_gives_others_is_not_built(
    tmp_path: Path, build_tiny: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Encoder(build_tiny("tiny_bert"), pooling="first").encode(TEXTS)
    assert build_bert(tmp_path, old) == 2
    printed = capsys.readouterr()
    assert "  --pooling first\n" in printed.out
    assert "nothing was built" in printed.err
    assert list((tmp_path / "out").iterdir()) == []


def test_old_vectors_without_texts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["build", "bert", str(DATA_DIR / "tiny_bert"), "--output", str(tmp_path / "b")]
    assert main([*command, "--texts", str(tmp_path / "t.txt")]) == 2
    assert "--texts and --expected must be given together" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_scores_of_old_are_a_condition_too(tmp_path: Path, build_head: Build) -> None:
    model = "tiny_distilbert_mood"
    scores = Classifier(build_head(model)).classify(TEXTS).scores
    command = ["build", "bert", str(DATA_DIR / model), "--task", "classify"]
    for number, old in enumerate((scores, scores[:, ::-1])):
        output = str(tmp_path / str(number))
        assert main([*command, "--output", output, *files(tmp_path, old)]) == (0 if number == 0 else 2)
    assert main(["verify", str(tmp_path / "0")]) == 0


@pytest.mark.slow
def test_word_vectors_of_an_elmo_of_old(tmp_path: Path) -> None:
    """As AllenNLP's command left them: every layer of every word of each line."""
    write_bilm(tmp_path, LONG_WORDS, seed=7)
    command = ["build", "elmo", "--options", str(tmp_path / "options.json")]
    command += ["--weights", str(tmp_path / "weights.hdf5")]
    assert main([*command, "--output", str(tmp_path / "first")]) == 0
    texts = ["The cat sat .", "a b"]
    layers = [
        [Encoder(tmp_path / "first", layers=(layer,), rows="word").encode([text]) for text in texts]
        for layer in ("lstm_outputs1", "lstm_outputs2", "elmo")
    ]
    with h5py.File(tmp_path / "old.hdf5", "w") as file:
        for index in range(len(texts)):
            file[str(index)] = np.stack([layer[index] for layer in layers])
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    held = ["--texts", str(tmp_path / "texts.txt"), "--expected", str(tmp_path / "old.hdf5")]
    assert main([*command, *held, "--expected_layer", "2", "--output", str(tmp_path / "same")]) == 0
    assert main([*command, *held, "--expected_layer", "1", "--output", str(tmp_path / "other")]) == 2
    assert main(["verify", str(tmp_path / "same")]) == 0

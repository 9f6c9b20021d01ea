"""From a table to a bundle that the job runs: what is learned, that it is the same again, what is refused."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.cli.main import main
from model_bundle.errors import SettingsError, SourceError
from model_bundle.inference.classifier import Classifier
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.verify import verify
from model_bundle.training.options import DataOptions, HeadOptions, TrainOptions
from model_bundle.training.split import read_data
from model_bundle.training.train import TrainResult, train_bundle
from tests.support.models.tiny import NAN_WORD
from tests.support.runs.jobs import PROJECT, run_classify, run_job

# Keras converts its own variables in a way that numpy 2 has said the end of.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
FILLERS = ("the", "a", "sat", "ran", "on", "mat", "home", "quick", "brown", "and")


def write_table(path: Path, num_rows: int, seed: int) -> Path:
    """Rows about cats or dogs, of different lengths; ``age`` says nothing."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "age"])
        for _ in range(num_rows):
            animal = ("cat", "dog")[random.integers(2)]
            words = [*random.choice(FILLERS, random.integers(0, 7)), animal]
            writer.writerow([" ".join(random.permutation(words)), animal, f"{random.normal():.3f}"])
    return path


@pytest.fixture(scope="module")
def base(tiny_bundle: Path) -> ModelBundle:
    return ModelBundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "train.csv", 240, 1)


def train(base: ModelBundle, table: Path, output: Path, data: Any = None, **head: Any) -> TrainResult:
    options = DataOptions(table, "text", "label", held_out=0.25, **(data or {}))
    learning = HeadOptions(**head)
    rows = read_data(options, learning.seed)
    return train_bundle(base, rows, TrainOptions(options, learning), output, lambda _: None)


def predictions(bundle: Path) -> list[dict[str, str]]:
    with (bundle / "training" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def texts_of(table: Path, rows: list[int]) -> list[str]:
    with table.open(newline="") as file:
        records = list(csv.DictReader(file))
    return [records[row - 1]["text"] for row in rows]


def check_predictions(bundle: Path, table: Path) -> None:
    """What the bundle says in memory is what Keras said when it was trained."""
    found = predictions(bundle)
    classes = Classifier(bundle).classify(texts_of(table, [int(row["row"]) for row in found]))
    assert classes.labels == [row["predicted"] for row in found]
    np.testing.assert_allclose(classes.scores.max(axis=1), [float(row["score"]) for row in found], atol=1e-4)


@pytest.fixture(scope="module")
def frozen(base: ModelBundle, table: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(base, table, tmp_path_factory.mktemp("trained") / "frozen", l2=0.001)


@pytest.mark.slow
def test_a_head_on_frozen_vectors(base: ModelBundle, frozen: TrainResult, table: Path) -> None:
    # The words of a random model tell little apart; chance is 0.5.
    assert frozen.metrics.accuracy >= 0.7
    manifest = frozen.bundle.manifest
    assert (manifest.task, manifest.labels, manifest.scores) == ("classify", ("cat", "dog"), "softmax")
    assert (manifest.max_tokens, manifest.licence) == (base.manifest.max_tokens, "Apache-2.0")
    assert manifest.tokenizer == base.manifest.tokenizer
    assert manifest.source.files["base/tiny/bundle.json"] == base.digest
    assert set(manifest.source.files) >= {"data/train.csv"}
    assert verify(frozen.bundle.path)
    check_predictions(frozen.bundle.path, table)
    metrics = json.loads((frozen.bundle.path / "training" / "metrics.json").read_text())
    assert metrics["accuracy"] == frozen.metrics.accuracy
    assert (metrics["options"]["seed"], metrics["num_held_out_rows"]) == (1, frozen.metrics.confusion.sum())
    assert set(metrics["versions"]) == {"python", "tensorflow", "keras", "numpy", "tokenizers"}


@pytest.mark.slow
def test_both_precisions_and_the_vectors_below(base: ModelBundle, frozen: TrainResult) -> None:
    texts = ["the cat sat", "a dog ran home"]
    assert Classifier(frozen.bundle, precision="bfloat16").classify(texts).labels == ["cat", "dog"]
    np.testing.assert_allclose(
        Encoder(frozen.bundle, normalize=True).encode(texts), Encoder(base).encode(texts), atol=1e-5
    )


@pytest.mark.slow
def test_the_job_says_what_keras_said(frozen: TrainResult, table: Path, tmp_path: Path) -> None:
    done = run_classify(tmp_path, frozen.bundle.path, "--input", table, "--text_column", "text")
    assert done.exit_code == 0, done.stderr
    labels = dict(enumerate(done.column("label"), 1))
    for row in predictions(frozen.bundle.path):
        assert labels[int(row["row"])] == row["predicted"]


@pytest.mark.slow
def test_fine_tuning_changes_the_encoder_and_gets_better(
    base: ModelBundle, frozen: TrainResult, table: Path, tmp_path: Path
) -> None:
    tuned = train(base, table, tmp_path / "tuned", fine_tune=True, epochs=4, learning_rate=3e-3)
    assert tuned.metrics.accuracy >= 0.8
    assert tuned.metrics.accuracy > frozen.metrics.accuracy
    check_predictions(tuned.bundle.path, table)
    texts = ["the cat sat", "a dog ran home"]
    moved = np.abs(Encoder(tuned.bundle, normalize=True).encode(texts) - Encoder(base).encode(texts)).max()
    assert moved > 0.01
    assert Classifier(tuned.bundle, precision="bfloat16").classify(texts).labels == ["cat", "dog"]


@pytest.mark.slow
def test_numbers_beside_the_text(base: ModelBundle, tmp_path: Path) -> None:
    """The text says nothing, the number all: what it learned, it learned from that."""
    random = np.random.default_rng(5)
    ages = random.normal(size=120)
    lines = ["text,label,age", *(f"the mat,{'old' if age > 0 else 'new'},{age:.4f}" for age in ages)]
    table = tmp_path / "train.csv"
    table.write_text("\n".join(lines) + "\n")
    for name, more in {"head": {"hidden": 4, "l2": 0.0}, "tuned": {"fine_tune": True, "epochs": 1}}.items():
        done = train(base, table, tmp_path / name, {"numeric_columns": ("age",)}, **more)
        assert done.metrics.accuracy >= 0.9
        assert done.bundle.manifest.inputs["numbers"].columns == ("age",)
        found = Classifier(done.bundle).classify(["the mat"] * 2, numeric={"age": [2.0, -2.0]})
        assert found.labels == ["old", "new"]
        run = run_classify(
            tmp_path / f"run_{name}", done.bundle.path, "--input", table, "--text_column", "text"
        )
        assert run.exit_code == 0, run.stderr
        labels = dict(enumerate(run.column("label"), 1))
        assert [labels[int(r["row"])] for r in predictions(done.bundle.path)] == [
            r["predicted"] for r in predictions(done.bundle.path)
        ]


@pytest.mark.slow
def test_a_mix_of_layers(base: ModelBundle, table: Path, tmp_path: Path) -> None:
    done = train(base, table, tmp_path / "mixed", mix=True, l2=0.001)
    assert done.metrics.accuracy >= 0.7
    check_predictions(done.bundle.path, table)


@pytest.mark.slow
def test_a_mix_of_elmo(table: Path, tiny_elmo: Path, tmp_path: Path) -> None:
    elmo = ModelBundle.open(tiny_elmo)
    done = train(elmo, table, tmp_path / "mixed", mix=True, l2=0.0, hidden=8)
    assert done.metrics.accuracy > 0.6
    check_predictions(done.bundle.path, table)
    run = run_job(tmp_path / "run", done.bundle.path, "--input", table, "--text_column", "text", "--limit", 3)
    assert run.exit_code == 0, run.stderr
    with pytest.raises(SettingsError, match=r"--fine_tune: elmo is of the family elmo; .* --mix"):
        train(elmo, table, tmp_path / "none", fine_tune=True)


def command(base: ModelBundle, table: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    columns = ["--text_column", "text", "--label_column", "label"]
    argv = [sys.executable, "-m", "model_bundle", "train", "--bundle", base.path, "--data", table, *columns]
    return subprocess.run(
        list(map(str, [*argv, "--output", output, *flags])),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_one_seed_gives_one_bundle(base: ModelBundle, table: Path, tmp_path: Path) -> None:
    flags = ("--fine_tune", "--epochs", "2", "--learning_rate", "1e-3", "--class_weights", "balanced")
    done = [command(base, table, tmp_path / name, *flags) for name in ("first", "second")]
    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    digests = [ModelBundle.open(tmp_path / name).digest for name in ("first", "second")]
    assert digests[0] == digests[1]
    assert f"sha256:{digests[0]}" in done[0].stdout
    assert "held-out accuracy: " in done[0].stdout
    assert "fine-tuning: epoch 2 of 2, held-out loss" in done[0].stderr
    assert ", batch " not in done[0].stderr


def test_what_the_command_refuses(
    base: ModelBundle, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "--bundle", base.path, "--data", table, "--output", tmp_path / "none"]
    argv += ["--text_column", "text", "--label_column", "label", "--class_weights", "bird=2"]
    assert main(list(map(str, argv))) == 2
    assert capsys.readouterr().err.endswith("there is no label 'bird'; the labels are: cat, dog.\n")
    assert not (tmp_path / "none").exists()


def test_a_bad_table_is_told_at_once(base: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\na cat,cat\na dog,\n")
    argv = ["train", "--bundle", base.path, "--data", tmp_path / "bad.csv", "--output", tmp_path / "none"]
    argv += ["--text_column", "text", "--label_column", "label"]
    code = (
        "import sys; from model_bundle.cli.main import main\n"
        f"assert main({list(map(str, argv))!r}) == 2\nassert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "row 2: label is empty" in done.stderr


def test_what_cannot_be_learned_is_told_with_its_row(
    base: ModelBundle, build_head: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    table = tmp_path / "train.csv"
    table.write_text(f"text,label\na cat,cat\nthe {NAN_WORD},dog\na cat,cat\na dog,dog\n")
    with pytest.raises(SettingsError, match=r"train.csv, row 2: the model has no vector .*NaN"):
        train(base, table, tmp_path / "none")
    with pytest.raises(SettingsError, match="tiny_distilbert_mood is already a classifier"):
        train(build_head("tiny_distilbert_mood"), table, tmp_path / "none")
    with pytest.raises(SourceError, match="already exists"):
        train(base, table, tmp_path)

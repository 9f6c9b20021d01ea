"""A model trained on a bundle, saved in each way: loaded again elsewhere, and made into a bundle."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.packed import pack_bundle, unpack_bundle
from model_bundle.cli.main import main
from model_bundle.errors import BundleFormatError, BundleIntegrityError
from model_bundle.inference.classifier import Classifier
from model_bundle.layers import BundleEmbedding
from model_bundle.layers.keras_setup import keras, tf
from tests.support.models.saved_layers import make_model
from tests.support.runs.jobs import PROJECT

# Keras converts its own variables in a way that numpy 2 has said the end of.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
TEXTS = ("the cat", "a dog ran home on the mat", "quick, quick " * 9, "")
WAYS = ("whole", "from_json", "weights", "exported")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_plain_bundle: Path) -> Path:
    """A folder with the model in each way, what was fed, and what it gave."""
    folder = tmp_path_factory.mktemp("saved")
    shutil.copytree(tiny_plain_bundle, folder / "bundle")
    model = make_model(folder / "bundle", ("no", "yes"))
    embedding = next(layer for layer in model.layers if isinstance(layer, BundleEmbedding))
    fed = embedding.tokenize(TEXTS)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(fed, np.array([0, 1, 1, 0]), epochs=2, verbose=0)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    (folder / "model.json").write_text(model.to_json())
    model.export(folder / "exported", verbose=False)
    np.savez(folder / "fed.npz", **{name: value.numpy() for name, value in fed.items()})
    np.save(folder / "expected.npy", model(fed).numpy())
    return folder


@pytest.mark.slow
def test_each_way_loads_in_a_fresh_process(saved: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "tests.support.models.saved_layers", str(saved)]
    done = subprocess.run(command, env=env, cwd=saved, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(saved / "found.npz") as found:
        assert set(found.files) == set(WAYS)
        for way in WAYS:
            np.testing.assert_allclose(found[way], np.load(saved / "expected.npy"), atol=1e-6, err_msg=way)


def slow(value: str) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


SOURCES = {
    "whole": ["model.keras"],
    "from_json": ["model.json", "--weights", "model.weights.h5"],
    "weights": ["model.weights.h5", "--model_factory", "tests.support.models.saved_layers:make_for_weights"],
    "exported": ["exported"],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["whole", *map(slow, ("exported", "from_json", "weights"))])
def test_each_way_becomes_a_bundle_by_one_command(
    saved: Path, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved)
    output = tmp_path / "bundle"
    assert main(["build", "keras", *SOURCES[way], "--output", str(output)]) == 0
    manifest = ModelBundle.open(output).manifest
    base = ModelBundle.open(saved / "bundle")
    assert (manifest.task, manifest.labels, manifest.max_tokens) == ("classify", ("no", "yes"), 20)
    assert manifest.licence == "Apache-2.0"
    assert manifest.tokenizer == base.manifest.tokenizer
    assert manifest.source.files["inside/tiny/bundle.json"] == base.digest
    name = "tokenizer/tokenizer.json"
    assert (output / name).read_bytes() == (saved / "bundle" / name).read_bytes()
    classes = Classifier(output).classify(TEXTS)
    np.testing.assert_allclose(classes.scores, np.load(saved / "expected.npy"), atol=1e-5)


def test_no_path_is_in_the_file(saved: Path) -> None:
    with zipfile.ZipFile(saved / "model.keras") as archive:
        assert str(saved) not in archive.read("config.json").decode()


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras is not typed
    """A model that Keras cannot look into."""

    def __init__(self, embedding: BundleEmbedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.pool = keras.layers.GlobalAveragePooling1D()
        self.scores = keras.layers.Dense(2, activation="softmax")

    def call(self, inputs: object) -> object:
        return self.scores(self.pool(self.embedding(inputs)))

    def get_config(self) -> dict[str, object]:
        return {"embedding": keras.saving.serialize_keras_object(self.embedding)}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> Subclassed:
        return cls(keras.saving.deserialize_keras_object(config["embedding"]))


@pytest.mark.slow
@pytest.mark.parametrize("fed", ["dict", slow("ids")])
def test_a_subclassed_model(saved: Path, fed: str, tmp_path: Path) -> None:
    embedding = BundleEmbedding(saved / "bundle", labels=("a", "b"))
    model = Subclassed(embedding)
    tokens = embedding.tokenize(TEXTS)
    expected = model(tokens if fed == "dict" else tokens["input_ids"]).numpy()
    model.save(tmp_path / "model.keras")
    flags = ["--custom_objects", f"{__name__}:Subclassed", "--output", str(tmp_path / "bundle")]
    assert main(["build", "keras", str(tmp_path / "model.keras"), *flags]) == 0
    classes = Classifier(tmp_path / "bundle").classify(TEXTS)
    np.testing.assert_allclose(classes.scores, expected, atol=1e-5)
    assert classes.names == ("a", "b")


@pytest.mark.slow
def test_elmo_on_texts(tiny_elmo: Path, tmp_path: Path) -> None:
    embedding = BundleEmbedding(tiny_elmo, labels=("a", "b"), trainable=True)
    pool, dense = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input((), dtype="string", name="text"), embedding, pool, dense])
    texts = [text for text in TEXTS if text]
    model.compile(keras.optimizers.SGD(0.5), "binary_crossentropy")
    model.fit(tf.constant(texts), np.array([0, 1, 1]), epochs=2, verbose=0)
    expected = model(tf.constant(texts)).numpy()[:, 0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(tf.constant(texts))[:, 0], expected, atol=1e-6)
    model.export(tmp_path / "exported", verbose=False)
    for source in ("model.keras", "exported"):
        output = tmp_path / f"bundle_of_{source}"
        assert main(["build", "keras", str(tmp_path / source), "--output", str(output)]) == 0
        classes = Classifier(output).classify(texts)
        np.testing.assert_allclose(classes.scores[:, 1], expected, atol=1e-5)
        assert classes.names == ("a", "b")


def test_what_is_not_whole_is_refused(saved: Path, tmp_path: Path) -> None:
    packed = pack_bundle(ModelBundle.open(saved / "bundle"))
    assert unpack_bundle(packed, tmp_path, "it").name == "tiny"
    with pytest.raises(BundleFormatError, match="it does not contain a complete model bundle"):
        unpack_bundle(packed[:-40], tmp_path, "it")
    for name, message in (
        ("tokenizer/tokenizer.json", "differs from the file"),
        ("other", "unexpected: other"),
    ):
        with pytest.raises(BundleIntegrityError, match=message):
            unpack_bundle(_with_file(packed, name), tmp_path, "it")
    with pytest.raises(BundleFormatError, match=r"point outside it: \.\./evil"):
        unpack_bundle(_with_file(packed, "../evil"), tmp_path, "it")
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("place", ["bundle", "gs://bucket/bundle", "bert-mini"])
def test_a_file_that_names_a_bundle_instead_of_containing_it_opens_none(
    saved: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle by its place would be opened with what it allows itself, before anything is checked."""
    opened: list[object] = []
    monkeypatch.setattr(ModelBundle, "open", lambda *arguments: opened.append(arguments))
    with (
        zipfile.ZipFile(saved / "model.keras") as source,
        zipfile.ZipFile(tmp_path / "m.keras", "w") as target,
    ):
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename == "config.json":
                config = json.loads(data)
                for layer in config["config"]["layers"]:
                    if "BundleEmbedding" in layer["class_name"]:
                        layer["config"]["bundle"] = place
                data = json.dumps(config).encode()
            target.writestr(entry.filename, data)
    with pytest.raises((BundleFormatError, TypeError), match=f"names a model bundle by its place, '{place}'"):
        keras.saving.load_model(tmp_path / "m.keras")
    assert opened == []


def _with_file(packed: str, name: str) -> str:
    source, target = io.BytesIO(base64.b64decode(packed)), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            if entry != name:
                new.writestr(entry, old.read(entry))
        new.writestr(name, b"something else")
    return base64.b64encode(target.getvalue()).decode()

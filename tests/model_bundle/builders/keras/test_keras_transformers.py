"""Keras files with transformers' TensorFlow models, against what they gave when they were saved.

``tests/goldens/record_keras_transformers.py`` recorded them with transformers 4.38 and TensorFlow 2.15.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.keras.build import saved_model_of
from model_bundle.builders.keras.load.child import LoadAnswer, LoadTask, export_keras
from model_bundle.builders.keras.load.parent import Generation
from model_bundle.builders.keras.load.stored_weights import read_layers, read_values
from model_bundle.builders.keras.load.transformers import (
    KINDS,
    assign_stand_in_layers,
    assign_stand_in_values,
    stand_ins,
)
from model_bundle.builders.keras.options import LoadChoices
from model_bundle.builders.keras.source import find_source
from model_bundle.errors import SourceError, WeightsMismatchError
from tests.conftest import DATA_DIR
from tests.support.models.keras_processes import keras_process

FAMILIES = ("DistilBert", "Roberta", "XLMRoberta", "Camembert", "Electra", "Albert", "MPNet")
FORMS = (
    *(f"{model}.{form}" for model in ("encoder", "classifier") for form in ("h5", "keras", "json")),
    "main.h5",
)
SOME_FORMS = ("encoder.keras", "classifier.h5", "main.h5")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded files, a folder for each family."""
    folder = tmp_path_factory.mktemp("transformers")
    with tarfile.open(DATA_DIR / "keras_transformers.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def keras_2() -> Iterator[Callable[[LoadTask, Generation], LoadAnswer]]:
    with ExitStack() as stack:
        process = stack.enter_context(keras_process(2))

        def run(task: LoadTask, generation: Generation) -> LoadAnswer:
            assert generation == 2
            answer: LoadAnswer = process.submit(export_keras, task).result()
            return answer

        yield run


def expected(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "expected.npz") as stored:
        return {name: stored[name] for name in stored.files}


def settings_of(file: Path, name: str) -> dict[str, Any]:
    """The configuration of the layer of a class."""
    with zipfile.ZipFile(file) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    found: dict[str, Any] = next(layer["config"] for layer in layers if layer["class_name"] == name)
    return found


def test_every_kind_but_bert_was_recorded(files: Path) -> None:
    # BERT itself is among the original artefacts.
    assert set(FAMILIES) == KINDS.keys() - {"Bert"}
    assert {path.name for path in files.iterdir()} == {family.lower() for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_stand_ins_give_what_the_model_gave(family: str, files: Path) -> None:
    """Weights by path and by name, without loading the files as a whole."""
    folder = files / family.lower()
    given = expected(folder)
    for model, kind in {"encoder": "Model", "classifier": "ForSequenceClassification"}.items():
        name = f"TF{family}{kind}"
        file = folder / f"{model}.keras"
        settings = settings_of(file, name)
        with zipfile.ZipFile(file) as archive:
            (folder / "w.h5").write_bytes(archive.read("model.weights.h5"))
        layer = stand_ins()[name](settings)
        standing: Any = SimpleNamespace(layers=[layer])
        rest, notes = assign_stand_in_values(standing, read_values(folder / "w.h5"), str(file))
        above = {path.rpartition("/")[2]: array for path, array in rest.items()}
        by_path = computed(layer, given, above)
        np.testing.assert_allclose(by_path, given[model], atol=TOLERANCE)
        assert any("were found by name" in note for note in notes)
        again = stand_ins()[name](settings)
        others, _ = assign_stand_in_layers(
            SimpleNamespace(layers=[again]), read_layers(folder / f"{model}.h5"), str(file)
        )
        assert len([array for arrays in others.values() for array in arrays]) == len(rest)
        np.testing.assert_allclose(computed(again, given, above), by_path, atol=1e-7)


def computed(layer: Any, given: dict[str, np.ndarray], above: dict[str, np.ndarray]) -> np.ndarray:
    """What the recorded model computes from its stand-in's outputs: see the script."""
    outputs = layer(given["input_ids"], attention_mask=given["attention_mask"])
    if layer.is_classifier:
        logits = np.asarray(outputs.logits, dtype=np.float64)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
    mean = np.asarray(outputs.last_hidden_state)[:, :3].mean(axis=1)
    return np.asarray(np.tanh(mean @ above["0"] + above["1"]))


def test_positions_of_roberta_begin_behind_1_whatever_its_configuration_says() -> None:
    # As in the classes of TensorFlow; those of PyTorch begin behind the padding's id.
    for name in ("TFRobertaModel", "TFXLMRobertaModel", "TFCamembertMainLayer"):
        assert stand_ins()[name]({"pad_token_id": 0}).settings["pad_token_id"] == 1
    assert stand_ins()["TFBertModel"]({"pad_token_id": 0}).settings["pad_token_id"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_files_give_what_they_gave(
    family: str, files: Path, keras_2: Callable[[LoadTask, Generation], LoadAnswer], tmp_path: Path
) -> None:
    import tensorflow as tf

    folder = files / family.lower()
    given = expected(folder)
    for form in FORMS if family in ("DistilBert", "MPNet") else SOME_FORMS:
        name = form.partition(".")[0]
        weights = folder / f"{name}.weights.h5" if form.endswith("json") else None
        source, choices = find_source(folder / form), LoadChoices(weights=weights)
        exported = saved_model_of(source, choices, tmp_path / form, keras_2)
        signature = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
        fed = {key: tf.constant(given[key]) for key in ("input_ids", "attention_mask")}
        (found,) = signature(**fed).values()
        np.testing.assert_allclose(found, given[name], atol=TOLERANCE, err_msg=form)
    whole = folder / "saved_model"
    if whole.exists():
        exported = saved_model_of(find_source(whole), LoadChoices(), tmp_path / "whole", keras_2)
        signature = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
        (found,) = signature(**fed).values()
        np.testing.assert_allclose(found, given["classifier"], atol=TOLERANCE)


def test_what_a_model_does_not_have_is_refused(files: Path) -> None:
    file = files / "distilbert" / "encoder.keras"
    settings = settings_of(file, "TFDistilBertModel")
    layer = stand_ins()["TFDistilBertModel"](settings)
    ids = np.ones((1, 3), np.int32)
    with pytest.raises(SourceError, match="is given token_type_ids"):
        layer(ids, token_type_ids=ids)
    with pytest.raises(SourceError, match="is given token_type_ids"):
        layer([ids, ids, ids])
    with zipfile.ZipFile(file) as archive:
        (file.parent / "w.h5").write_bytes(BytesIO(archive.read("model.weights.h5")).getvalue())
    values = read_values(file.parent / "w.h5")
    lost = next(name for name in values if "lin1" in name)
    standing: Any = SimpleNamespace(layers=[layer])
    with pytest.raises(WeightsMismatchError, match="ffn/inner"):
        assign_stand_in_values(standing, {n: v for n, v in values.items() if n != lost}, "file")

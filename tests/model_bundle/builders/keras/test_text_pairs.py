"""Heads for two texts in Keras models: what says so, and that ``--single_text`` overrules it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.keras.load.config import head_settings
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.resolve_outputs import KerasOutputs, resolve_outputs
from model_bundle.builders.keras.sidecar_files import Sidecar
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.cli.main import main
from model_bundle.errors import SourceError
from model_bundle.runtime.golden import GOLDEN_TEXTS
from tests.conftest import DATA_DIR

SCORES = {"dense": np.full((len(GOLDEN_TEXTS), 2), 0.5, np.float32)}
MNLI = {"0": "CONTRADICTION", "1": "NEUTRAL", "2": "ENTAILMENT"}
CLASSIFIER = "TFBertForSequenceClassification"


def resolve(
    beside: Sidecar | None = None, name: str = "model", settings: Any = None, **choices: Any
) -> KerasOutputs:
    return resolve_outputs(SCORES, None, beside, KerasChoices(**choices), name, settings or {})


def sidecar(folder: Path, card: str = "", **config: Any) -> Sidecar:
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n")
    return Sidecar(SourceFolder(folder), config, "")


def check_refused(evidence: str, *given: Any, **named: Any) -> None:
    with pytest.raises(SourceError, match=f"scores two texts together .{evidence}.*--single_text"):
        resolve(*given, **named)
    told = resolve(*given, **named, single_text=True)
    assert told.task == "classify"
    assert any("as --single_text says, in spite of" in note for note in told.notes)


def test_labels_that_relate_two_texts(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("not_entailment\nEntailment\n")
    check_refused("its labels", labels=labels)
    check_refused(
        "its labels", sidecar(tmp_path, id2label=["duplicate", "other"], architectures=[CLASSIFIER])
    )
    # Vectors are of one text, whatever the classes are called.
    assert resolve(labels=labels, task="embed").task == "embed"


def test_the_files_beside_the_model(tmp_path: Path) -> None:
    check_refused("finetuning_task 'MNLI'", sidecar(tmp_path, finetuning_task="MNLI"))
    check_refused("its model card: cross-encoder", sidecar(tmp_path, "tags:\n- cross-encoder"))


def test_the_name_of_the_model() -> None:
    check_refused("its name", name="ms-marco-Cross-Encoder")
    assert resolve(name="crossing").task == "classify"


def test_the_configuration_inside_the_file(tmp_path: Path) -> None:
    """Files of Keras name the classes of transformers' models in the layer's own configuration."""
    config = {"layers": [{"class_name": CLASSIFIER, "name": "c", "config": {"id2label": MNLI}}]}
    whole = {"class_name": "Functional", "config": config}
    architecture = tmp_path / "model.json"
    architecture.write_text(json.dumps(whole))
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(whole))
        archive.writestr("metadata.json", "{}")
    for path in (architecture, tmp_path / "model.keras"):
        assert head_settings(path) == {"id2label": MNLI}
    check_refused("its labels: 'CONTRADICTION', 'ENTAILMENT'", settings=head_settings(architecture))
    assert head_settings(tmp_path / "ckpt") == head_settings(tmp_path) == {}


def test_the_flag_needs_a_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["build", "bert", str(DATA_DIR / "tiny_bert"), "--output", str(tmp_path / "bundle")]
    assert main([*command, "--single_text"]) == 2
    assert "--single_text has no effect without --task classify" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()

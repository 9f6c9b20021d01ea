"""Modules that a Keras file brings along by name are scanned before Keras loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from model_bundle.builders.keras.load.custom_objects import Redirect
from model_bundle.builders.tfhub.handle import cache_folder
from model_bundle.cli.main import main
from model_bundle.errors import ForbiddenOperationError, SourceError
from tests.support.models.hostile_models import saver_writes
from tests.support.models.saved_models import lengths, save, writes_in_initialiser

HANDLE = "https://tfhub.dev/somebody/module/1"


@pytest.mark.parametrize("way", ["path", "named folder", "cache"])
@pytest.mark.parametrize("make", [writes_in_initialiser, saver_writes], ids=lambda make: make.__name__)
def test_a_module_is_scanned_whatever_its_handle(
    way: str, make: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    module = make(tmp_path / "module", tmp_path / "written")
    if way == "cache":
        shutil.copytree(module, cache_folder(HANDLE))
    resolve = Redirect({HANDLE: str(module)} if way == "named folder" else {})
    with pytest.raises(ForbiddenOperationError, match=r"The TF-Hub module .* was not opened"):
        resolve(str(module) if way == "path" else HANDLE)
    assert resolve.is_supported("anything")
    allowed = Redirect({HANDLE: str(module)}, ["WriteFile", "Save"])
    assert allowed(HANDLE) == str(module)


def test_a_good_module_is_found_and_a_file_is_none(tmp_path: Path) -> None:
    module = save(tmp_path / "module", lengths)
    assert Redirect({})(str(module)) == str(module)
    with pytest.raises(SourceError, match="Name its folder: --hub_handle"):
        Redirect({})(str(tmp_path / "nothing"))


def write_model(folder: Path, handle: str) -> list[str]:
    """Writes an architecture with a TF-Hub layer and weights for it; returns flags to build it."""
    name, layer = {"class_name": "InputLayer", "name": "text", "inbound_nodes": []}, "hub"
    config = {
        "batch_input_shape": [None],
        "dtype": "string",
        "sparse": False,
        "ragged": False,
        "name": "text",
    }
    layers = [
        name | {"config": config},
        {
            "class_name": "KerasLayer",
            "config": {"name": layer, "trainable": False, "dtype": "float32", "handle": handle},
            "name": layer,
            "inbound_nodes": [[["text", 0, 0, {}]]],
        },
    ]
    ends = {"input_layers": [["text", 0, 0]], "output_layers": [[layer, 0, 0]]}
    model = {"name": "m", "trainable": True, "layers": layers, **ends}
    whole = {"class_name": "Functional", "config": model, "keras_version": "2.15.0", "backend": "tensorflow"}
    (folder / "model.json").write_text(json.dumps(whole))
    with h5py.File(folder / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [layer.encode()]
        file.create_group(layer).attrs.create("weight_names", np.array([], dtype="S1"))
    return ["build", "keras", str(folder / "model.json"), "--weights", str(folder / "weights.h5")]


def test_building_names_the_module_and_what_it_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = writes_in_initialiser(tmp_path / "module", tmp_path / "written")
    (tmp_path / "written").unlink(missing_ok=True)
    command = write_model(tmp_path, str(module))
    assert main([*command, "--output", str(tmp_path / "bundle")]) == 2
    said = capsys.readouterr().err
    assert "The TF-Hub module" in said
    assert "WriteFile writes files" in said
    assert "--allow_ops WriteFile" in said
    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "bundle").exists()

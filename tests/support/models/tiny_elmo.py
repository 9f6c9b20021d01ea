"""An ELMo small enough to build in a test, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle
from model_bundle.bundle.bundle import ModelBundle
from tests.support.models import elmo_reference as reference

OPTIONS: dict[str, Any] = {
    "char_cnn": {
        "activation": "relu",
        "embedding": {"dim": 4},
        "filters": [[1, 3], [3, 5]],
        "n_highway": 1,
        "n_characters": 262,
        "max_characters_per_token": 20,
    },
    "lstm": {
        "projection_dim": 6,
        "dim": 7,
        "n_layers": 2,
        "cell_clip": 3,
        "proj_clip": 3,
        "use_skip_connections": True,
    },
}


def write_bilm(folder: Path) -> tuple[Path, Path]:
    """Writes the options and the weights of a biLM as bilm does."""
    (folder / "options.json").write_text(json.dumps(OPTIONS))
    with h5py.File(folder / "weights.hdf5", "w") as file:
        for name, value in reference.random_model(OPTIONS, seed=3).items():
            file[name] = value
    return folder / "options.json", folder / "weights.hdf5"


def build_tiny_elmo(folder: Path, **choices: Any) -> ModelBundle:
    """Builds its bundle in ``folder/elmo``: 12 dimensions, two LSTM layers."""
    return build_elmo_bundle(*write_bilm(folder), ElmoChoices(**choices), folder / "elmo")

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


# Words of up to 50 characters, as in the original ELMo.
LONG_WORDS: dict[str, Any] = {
    "char_cnn": {
        **OPTIONS["char_cnn"],
        "filters": [[1, 4], [2, 6]],
        "max_characters_per_token": 50,
    },
    "lstm": {**OPTIONS["lstm"], "projection_dim": 8, "dim": 12},
}


def write_bilm(folder: Path, options: dict[str, Any] = OPTIONS, seed: int = 3) -> tuple[Path, Path]:
    """Writes the options and the random weights of a biLM as bilm does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "weights.hdf5", "w") as file:
        for name, value in reference.random_model(options, seed=seed).items():
            file[name] = value
    return folder / "options.json", folder / "weights.hdf5"


def build_tiny_elmo(folder: Path, **choices: Any) -> ModelBundle:
    """Builds its bundle in ``folder/elmo``: 12 dimensions, two LSTM layers."""
    return build_elmo_bundle(*write_bilm(folder), ElmoChoices(**choices), folder / "elmo")


def build_long_words_elmo(folder: Path, **choices: Any) -> ModelBundle:
    """Builds a bundle of ``LONG_WORDS`` in ``folder/elmo``: 16 dimensions, two LSTM layers."""
    files = write_bilm(folder, LONG_WORDS, seed=7)
    return build_elmo_bundle(*files, ElmoChoices(**choices), folder / "elmo")

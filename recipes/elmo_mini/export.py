"""Writes trained weights as bilm files and builds the bundle from them, like from any bilm files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle
from model_bundle.bundle.bundle import ModelBundle
from recipes.elmo_mini.shape import OPTIONS
from recipes.elmo_mini.words import WORD_SPLIT

NAME = "elmo-mini"
OPTIONS_FILE, WEIGHTS_FILE, MIX_FILE, LICENCE_FILE = "options.json", "weights.hdf5", "mix.json", "LICENSE"
_LICENCE_TEXT = """\
elmo-mini is licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0

It was trained on sentences of English Wikipedia (WikiSplit, CC BY-SA 4.0) and on text of this project, and
taught by sentence-transformers/all-MiniLM-L6-v2 (Apache License 2.0); none of these is part of it.
"""


def write_files(weights: Mapping[str, np.ndarray], layer_weights: Sequence[float], folder: Path) -> None:
    """Writes ``options.json``, ``weights.hdf5`` in half precision, the mix, and last the weights' name.

    Args:
        weights: float32 arrays by the names of ``weight_shapes``.
        layer_weights: of the mix, word vectors first.
        folder: made if it is not there.
    """
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / OPTIONS_FILE, OPTIONS)
    _write_json(folder / MIX_FILE, {"layer_weights": [round(weight, 6) for weight in layer_weights]})
    (folder / LICENCE_FILE).write_text(_LICENCE_TEXT)
    partial = folder / f"partial-{WEIGHTS_FILE}"
    with h5py.File(partial, "w") as file:
        for name, value in sorted(weights.items()):
            file.create_dataset(name, data=value.astype(np.float16), track_times=False)
    partial.replace(folder / WEIGHTS_FILE)


def build_bundle(folder: Path, output: Path, name: str = NAME) -> ModelBundle:
    """Builds the bundle like ``python -m model_bundle build elmo``.

    Raises:
        SourceError: ``output`` is there already, or a file cannot be read.
    """
    mix = json.loads((folder / MIX_FILE).read_text())["layer_weights"]
    choices = ElmoChoices(
        layer_weights=tuple(mix),
        word_split=WORD_SPLIT,
        name=name,
        licence="Apache-2.0",
        origin="recipes/elmo_mini",
    )
    return build_elmo_bundle(folder / OPTIONS_FILE, folder / WEIGHTS_FILE, choices, output)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")

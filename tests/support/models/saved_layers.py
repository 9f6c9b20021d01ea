"""Runs in a process of its own: loads a model on a bundle, saved in each way, and writes what it gives.

Arguments: the folder with the files, what is fed (``fed.npz``), and where to write.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import model_bundle.layers
from model_bundle.layers.keras_setup import keras, tf


def make_model(place: Path, labels: tuple[str, ...] = ()) -> Any:
    """Builds the model of these tests on a bundle."""
    embedding = model_bundle.layers.BundleEmbedding(place, max_tokens=20, labels=labels, trainable=True)
    inputs = embedding.make_inputs()
    pooled = keras.layers.GlobalAveragePooling1D()(embedding(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="scores")(pooled))


def make_for_weights() -> Any:
    """Builds the model for weights alone, on the bundle beside the code's folder."""
    return make_model(Path("bundle").resolve(), ("no", "yes"))


def _run(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "fed.npz") as stored:
        fed = {name: tf.constant(stored[name]) for name in stored.files}
    whole = keras.saving.load_model(folder / "model.keras")
    from_json = keras.models.model_from_json((folder / "model.json").read_text())
    from_json.load_weights(folder / "model.weights.h5")
    weights = make_for_weights()
    weights.load_weights(folder / "model.weights.h5")
    exported = tf.saved_model.load(str(folder / "exported"))
    found = {"whole": whole(fed), "from_json": from_json(fed), "weights": weights(fed)}
    return {name: value.numpy() for name, value in {**found, "exported": exported.serve(fed)}.items()}


if __name__ == "__main__":
    found: dict[str, Any] = _run(Path(sys.argv[1]))
    np.savez(Path(sys.argv[1]) / "found.npz", **found)

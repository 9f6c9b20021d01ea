"""The shape of elmo-mini and its initial weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_bundle.builders.graphs.elmo_options import BilmOptions, weight_shapes

SEED = 1
PROJECTION_DIM = 128
# The content of options.json. Half precision halves the stored weights, so the bundle stays below 8 MB.
OPTIONS: dict[str, Any] = {
    "bidirectional": True,
    "char_cnn": {
        "activation": "relu",
        "embedding": {"dim": 16},
        "filters": [[1, 32], [2, 64], [3, 128], [4, 144], [5, 144]],
        "max_characters_per_token": 50,
        "n_characters": 262,
        "n_highway": 1,
    },
    "lstm": {
        "cell_clip": 3,
        "dim": 192,
        "n_layers": 2,
        "proj_clip": 3,
        "projection_dim": PROJECTION_DIM,
        "use_skip_connections": True,
    },
}
SHAPE = BilmOptions(
    character_dim=16,
    filters=((1, 32), (2, 64), (3, 128), (4, 144), (5, 144)),
    activation="relu",
    num_highways=1,
    max_characters=50,
    lstm_dim=192,
    projection_dim=PROJECTION_DIM,
    num_layers=2,
    use_skip_connections=True,
    cell_clip=3.0,
    projection_clip=3.0,
)
# Highways begin close to the identity. Source: bilm, where the transform gate's bias is -2.
_GATE_BIAS = -2.0


def first_weights(shape: BilmOptions = SHAPE, seed: int = SEED) -> dict[str, np.ndarray]:
    """Returns float32 weights by the names of ``weight_shapes``: random, scaled by their inputs."""
    random = np.random.default_rng(seed)
    return {name: _first(name, size, random) for name, size in sorted(weight_shapes(shape).items())}


def _first(name: str, size: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if name.endswith("b_carry"):
        return np.full(size, _GATE_BIAS, np.float32)
    if len(size) == 1:
        return np.zeros(size, np.float32)
    inputs = 1 if name == "char_embed" else int(np.prod(size[:-1]))
    return random.normal(0.0, 1.0 / np.sqrt(inputs), size).astype(np.float32)

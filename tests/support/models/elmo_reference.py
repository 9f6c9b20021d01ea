"""ELMo in NumPy and float64, one text and one step at a time: slow, plain, and written apart from the graph.

It follows bilm's description in the facts of the format, not this project's graph; that it is right is shown
by the vectors AllenNLP published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


def spell(word: str, size: int = 50) -> list[int]:
    """Ids of a word's characters, all plus one."""
    special = {"<S>": [256], "</S>": [257]}
    data = special.get(word) or list(word.encode("utf-8"))[: size - 2]
    row = [258, *data, 259]
    return [value + 1 for value in row + [260] * (size - len(row))]


def word_vector(options: dict[str, Any], weights: Weights, word: str) -> np.ndarray:
    """The vector of a word alone: float64[projection_dim]."""
    cnn = options["char_cnn"]
    table = np.concatenate([np.zeros((1, cnn["embedding"]["dim"])), weights["char_embed"].astype(np.float64)])
    rows = table[spell(word, cnn["max_characters_per_token"])]
    pooled = []
    for index, (width, _) in enumerate(cnn["filters"]):
        kernel, bias = weights[f"CNN/W_cnn_{index}"][0], weights[f"CNN/b_cnn_{index}"]
        sums = [
            np.einsum("wd,wdn->n", rows[at : at + width], kernel.astype(np.float64))
            for at in range(len(rows) - width + 1)
        ]
        pooled.append(np.max(sums, axis=0) + bias)
    value = np.concatenate(pooled)
    value = np.maximum(value, 0) if cnn["activation"] == "relu" else np.tanh(value)
    for index in range(cnn.get("n_highway") or 0):
        name = f"CNN_high_{index}"
        gate = sigmoid(value @ weights[f"{name}/W_carry"] + weights[f"{name}/b_carry"])
        new = np.maximum(value @ weights[f"{name}/W_transform"] + weights[f"{name}/b_transform"], 0)
        value = gate * new + (1 - gate) * value
    if "CNN_proj/W_proj" in weights:
        value = value @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"]
    return np.asarray(value)


def sigmoid(value: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-value))
    return result


def run_direction(
    options: dict[str, Any], weights: Weights, direction: int, vectors: np.ndarray
) -> list[np.ndarray]:
    """Outputs of every layer in reading order, from zero state: float64[steps, projection_dim] each."""
    lstm = options["lstm"]
    layers, inputs = [], vectors
    for layer in range(lstm["n_layers"]):
        name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
        projection = weights.get(f"{name}/W_P_0")
        cell, output = np.zeros(lstm["dim"]), np.zeros(lstm["projection_dim"])
        steps = []
        for value in inputs:
            gates = np.concatenate([value, output]) @ weights[f"{name}/W_0"] + weights[f"{name}/B"]
            i, j, f, o = np.split(gates, 4)
            cell = sigmoid(f + 1.0) * cell + sigmoid(i) * np.tanh(j)
            if lstm.get("cell_clip"):
                cell = np.clip(cell, -lstm["cell_clip"], lstm["cell_clip"])
            output = sigmoid(o) * np.tanh(cell)
            if projection is not None:
                output = output @ projection
                if lstm.get("proj_clip"):
                    output = np.clip(output, -lstm["proj_clip"], lstm["proj_clip"])
            steps.append(output + value if layer and lstm.get("use_skip_connections") else output)
        inputs = np.array(steps).reshape(-1, lstm["projection_dim"])
        layers.append(inputs)
    return layers


def encode(
    options: dict[str, Any], weights: Weights, words: Sequence[str], *, boundaries: bool = True
) -> list[np.ndarray]:
    """Layers of one text, word vectors (twice) first: float64[words, 2 * projection_dim] each."""
    surrounded = ["<S>", *words, "</S>"] if boundaries else list(words)
    vectors = np.array([word_vector(options, weights, word) for word in surrounded])
    vectors = vectors.reshape(-1, options["lstm"]["projection_dim"])
    forward = [vectors, *run_direction(options, weights, 0, vectors)]
    backward = [vectors, *(out[::-1] for out in run_direction(options, weights, 1, vectors[::-1]))]
    real = slice(1, -1) if boundaries else slice(None)
    return [np.concatenate([f, b], axis=1)[real] for f, b in zip(forward, backward, strict=True)]


def random_model(options: dict[str, Any], seed: int) -> Weights:
    """Random weights, large enough that every gate and clip matters, by the names of ``weights.hdf5``."""
    rng = np.random.default_rng(seed)
    cnn, lstm = options["char_cnn"], options["lstm"]
    dim, cell, chars = lstm["projection_dim"], lstm["dim"], cnn["embedding"]["dim"]
    width = sum(count for _, count in cnn["filters"])
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (261, chars)}
    for index, (size, count) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{index}": (1, size, chars, count), f"CNN/b_cnn_{index}": (count,)}
    for index in range(cnn.get("n_highway") or 0):
        for gate in ("carry", "transform"):
            shapes |= {f"CNN_high_{index}/W_{gate}": (width, width), f"CNN_high_{index}/b_{gate}": (width,)}
    if width != dim:
        shapes |= {"CNN_proj/W_proj": (width, dim), "CNN_proj/b_proj": (dim,)}
    for direction in range(2):
        for layer in range(lstm["n_layers"]):
            name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {f"{name}/W_0": (2 * dim, 4 * cell), f"{name}/B": (4 * cell,)}
            if cell != dim:
                shapes[f"{name}/W_P_0"] = (cell, dim)
    return {name: _random(rng, shape) for name, shape in shapes.items()}


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 4
    scale = 1.0 if shape[0] == 261 else 1.5 / np.sqrt(fan_in)
    return rng.normal(size=shape, scale=scale).astype(np.float32)


def original_options() -> dict[str, Any]:
    """The sizes of the ELMo published first, as in elmo_2x4096_512_2048cnn_2xhighway_options.json."""
    filters = [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]]
    cnn = {"activation": "relu", "embedding": {"dim": 16}, "filters": filters, "n_highway": 2}
    lstm = {"cell_clip": 3, "dim": 4096, "n_layers": 2, "proj_clip": 3, "projection_dim": 512}
    return {
        "char_cnn": cnn | {"n_characters": 262, "max_characters_per_token": 50},
        "lstm": lstm | {"use_skip_connections": True},
    }

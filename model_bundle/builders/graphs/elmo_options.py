"""The shape of a bidirectional language model (biLM) and its weights' names. Without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_bundle.errors import WeightsMismatchError

# Bytes, begin and end of sentence, begin and end of word, padding. Source: UnicodeCharsVocabulary of bilm.
NUM_STORED_CHARACTERS = 261
DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class BilmOptions:
    """The options of a biLM, as in ``options.json``.

    ``filters`` are (width, count) pairs of the character convolution, ``activation`` is ``relu`` or ``tanh``.
    ``projection_dim`` is the size of a word vector and of one direction's output, ``lstm_dim`` that of the
    cell. A clip of None means no clipping. ``max_characters`` includes the two marks around a word.
    """

    character_dim: int
    filters: tuple[tuple[int, int], ...]
    activation: str
    num_highways: int
    max_characters: int
    lstm_dim: int
    projection_dim: int
    num_layers: int
    use_skip_connections: bool
    cell_clip: float | None
    projection_clip: float | None

    @property
    def num_filters(self) -> int:
        """The number of outputs of the character convolution."""
        return sum(count for _, count in self.filters)

    @property
    def projects_words(self) -> bool:
        """Whether a dense layer follows the highways. Source: bilm, only if sizes differ."""
        return self.num_filters != self.projection_dim

    @property
    def projects_cells(self) -> bool:
        """Whether the cell's output is projected. Source: bilm, only if sizes differ."""
        return self.lstm_dim != self.projection_dim


def cell_prefix(direction: int, layer: int) -> str:
    """Returns the path of one LSTM's weights in the file; direction 0 is forward, 1 backward."""
    return f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"


def weight_shapes(options: BilmOptions) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every weight by its name in ``weights.hdf5``; kernels are [inputs, outputs]."""
    dim, width = options.projection_dim, options.num_filters
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (NUM_STORED_CHARACTERS, options.character_dim)}
    for index, (size, count) in enumerate(options.filters):
        shapes[f"CNN/W_cnn_{index}"] = (1, size, options.character_dim, count)
        shapes[f"CNN/b_cnn_{index}"] = (count,)
    for index in range(options.num_highways):
        for gate in ("carry", "transform"):
            shapes[f"CNN_high_{index}/W_{gate}"] = (width, width)
            shapes[f"CNN_high_{index}/b_{gate}"] = (width,)
    if options.projects_words:
        shapes |= {"CNN_proj/W_proj": (width, dim), "CNN_proj/b_proj": (dim,)}
    for direction in range(len(DIRECTIONS)):
        for layer in range(options.num_layers):
            shapes |= _cell_shapes(options, cell_prefix(direction, layer))
    return shapes


def _cell_shapes(options: BilmOptions, prefix: str) -> dict[str, tuple[int, ...]]:
    dim, gates = options.projection_dim, 4 * options.lstm_dim
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}/W_0": (2 * dim, gates), f"{prefix}/B": (gates,)}
    if options.projects_cells:
        shapes[f"{prefix}/W_P_0"] = (options.lstm_dim, dim)
    return shapes


def check_weights(options: BilmOptions, weights: Mapping[str, np.ndarray], source: str) -> None:
    """Checks that the weights are exactly those the options describe.

    An unexpected weight is rejected too: it means that the options omit a part of the model.

    Raises:
        WeightsMismatchError: lists every weight that is missing, unexpected, of a wrong shape (with both
            shapes), or contains NaN or infinity.
    """
    shapes = weight_shapes(options)
    missing = sorted(shapes.keys() - weights.keys())
    unused = sorted(f"{name} {weights[name].shape}" for name in weights.keys() - shapes.keys())
    wrong = [
        f"{name}: stored {weights[name].shape}, expected {shape}"
        for name, shape in sorted(shapes.items())
        if name in weights and weights[name].shape != shape
    ]
    broken = sorted(name for name, weight in weights.items() if not np.isfinite(weight).all())
    wrong += [f"{name}: contains NaN or infinity" for name in broken]
    if missing or unused or wrong:
        raise WeightsMismatchError(source, missing=missing, unused=unused, wrong_shapes=wrong)

"""Runs texts through ELMo and records what enters the products of its LSTMs. Imports TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.elmo import Elmo
from model_bundle.builders.graphs.elmo_int8 import product_name
from model_bundle.builders.graphs.elmo_lstm import GATES, BidirectionalLstm, Weights
from model_bundle.builders.graphs.elmo_options import DIRECTIONS
from model_bundle.quantize.observed import KEPT_ROWS, Observed, batches_of
from model_bundle.text.prepared import PreparedTexts

# Rows kept of one step; a batch has some dozens of steps.
_ROWS_PER_STEP = 4


def observe(elmo: Elmo, prepared: PreparedTexts) -> dict[str, Observed]:
    """Encodes texts, step by step outside of a graph, and returns what entered each product, by its name.

    Steps past the end of a text count, too: the texts of a batch are of similar length.
    """
    found: dict[str, Observed] = {}
    recording = Elmo.__new__(Elmo)
    tf.Module.__init__(recording, name="recording")
    recording.options, recording.boundaries = elmo.options, elmo.boundaries
    recording._characters, recording._caches, recording._mix = elmo._characters, elmo._caches, elmo._mix
    recording._layers = [_RecordingLstm(layer, index, found) for index, layer in enumerate(elmo._layers)]
    for batch in batches_of(prepared):
        arrays = prepared.batch(batch)
        recording.encode(tf.constant(arrays["words"]), tf.constant(arrays["lengths"], tf.int32))
    return {name: inputs.thinned(KEPT_ROWS) for name, inputs in found.items()}


def kernel_of(elmo: Elmo, name: str) -> np.ndarray:
    """Returns the float32 kernel of a product; that of gates has all of them, in the order of ``GATES``."""
    layer, direction, what = name.split("/")
    weights = elmo._layers[int(layer.removeprefix("layer_"))]._directions[DIRECTIONS.index(direction)]
    if what == "projection":
        kernel: np.ndarray = weights["projection_kernel"].numpy()
        return kernel
    return np.concatenate([weights[f"{gate}/kernel"].numpy() for gate in GATES], axis=1)


class _Found:
    """Where what was observed goes; a class, since TensorFlow would wrap a dict."""

    def __init__(self, index: int, by_name: dict[str, Observed]) -> None:
        self.index, self.by_name = index, by_name

    def add(self, direction: int, what: str, rows: np.ndarray) -> None:
        name = product_name(self.index, direction, what)
        self.by_name.setdefault(name, Observed(rows.shape[1])).add(rows, _ROWS_PER_STEP)


class _RecordingLstm(BidirectionalLstm):
    def __init__(self, layer: BidirectionalLstm, index: int, by_name: dict[str, Observed]) -> None:
        tf.Module.__init__(self, name=layer.name)
        self._options, self._adds_input = layer._options, layer._adds_input
        self._directions = layer._directions
        self._found = _Found(index, by_name)

    def _gates(
        self, direction: int, inputs: tf.Tensor, output: tf.Tensor, weights: Weights
    ) -> list[tf.Tensor]:
        self._found.add(direction, "gates", np.concatenate([inputs.numpy(), output.numpy()], axis=1))
        return super()._gates(direction, inputs, output, weights)

    def _project(self, direction: int, output: tf.Tensor, weights: Weights) -> tf.Tensor:
        self._found.add(direction, "projection", output.numpy())
        return super()._project(direction, output, weights)

"""The network of elmo-mini in training. Imports TensorFlow.

The same numbers as ``model_bundle.builders.graphs.elmo`` gives (a test says so), in a form that trains fast:
both directions in one product, words as ids of their characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.elmo_options import DIRECTIONS, BilmOptions, cell_prefix

# Source: LSTMCell of TensorFlow 1, which does not store it in the bias.
_FORGET_BIAS = 1.0


class Network(tf.Module):
    """A biLM with trainable weights.

    Args:
        shape: its sizes; it adds a layer's input to its output, projects words and cells, and clips both.
        weights: float32 arrays by the names of ``weight_shapes``.
    """

    def __init__(self, shape: BilmOptions, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(name="elmo_mini")
        self.shape = shape
        self._variables = {name: tf.Variable(value, name=name) for name, value in weights.items()}

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Returns the current weights by the names of ``weight_shapes``."""
        return {name: variable.numpy() for name, variable in self._variables.items()}

    def of(self, *prefixes: str) -> list[tf.Variable]:
        """Returns the variables whose names begin with one of the prefixes."""
        return [v for name, v in sorted(self._variables.items()) if name.startswith(prefixes)]

    def assign(self, name: str, value: np.ndarray) -> None:
        """Sets one of the weights."""
        self._variables[name].assign(value.astype(np.float32))

    def spell(self, ids: Any) -> Any:
        """Computes word vectors: int32[words, characters] to float32[words, projection_dim].

        Padding must be at least as long as the widest filter: more of it changes no maximum.
        """
        return self._dense(self.highway(ids), "CNN_proj/", "_proj")

    def highway(self, ids: Any) -> Any:
        """Returns the input of the projection: float32[words, filters]."""
        table = tf.pad(self._variables["char_embed"], [[1, 0], [0, 0]])
        characters = tf.gather(table, ids)
        pooled = [
            self._largest(characters, index, width) for index, (width, _) in enumerate(self.shape.filters)
        ]
        words = tf.nn.relu(tf.concat(pooled, axis=-1))
        for index in range(self.shape.num_highways):
            gate = tf.sigmoid(self._dense(words, f"CNN_high_{index}/", "_carry"))
            words = (
                gate * tf.nn.relu(self._dense(words, f"CNN_high_{index}/", "_transform")) + (1 - gate) * words
            )
        return words

    def run(self, words: Any) -> list[Any]:
        """Returns each layer, word vectors first.

        Args:
            words: float32[2, steps, texts, projection_dim]. The second half holds the words backwards: what
                is a language model of the text there is the backward direction. Padding is behind the text.

        Returns:
            float32 of the same shape, and for the second half in the same order, for each layer.
        """
        layers = [words]
        for layer in range(self.shape.num_layers):
            outputs = self._lstm(layer, layers[-1])
            layers.append(outputs + layers[-1] if layer else outputs)
        return layers

    def _dense(self, values: Any, folder: str, which: str) -> Any:
        return tf.matmul(values, self._variables[f"{folder}W{which}"]) + self._variables[f"{folder}b{which}"]

    def _largest(self, characters: Any, index: int, width: int) -> Any:
        kernel = self._variables[f"CNN/W_cnn_{index}"]
        count = kernel.shape[-1]
        positions = tf.shape(characters)[1] - width + 1
        windows = tf.concat([characters[:, k : positions + k] for k in range(width)], axis=-1)
        flat = tf.reshape(windows, [-1, width * self.shape.character_dim])
        products = tf.matmul(flat, tf.reshape(kernel, [-1, count]))
        largest = tf.reduce_max(tf.reshape(products, [-1, positions, count]), axis=1)
        return largest + self._variables[f"CNN/b_cnn_{index}"]

    def _both(self, layer: int, name: str) -> Any:
        return tf.stack(
            [self._variables[f"{cell_prefix(side, layer)}/{name}"] for side in range(len(DIRECTIONS))]
        )

    def _lstm(self, layer: int, inputs: Any) -> Any:
        dim, steps = self.shape.projection_dim, tf.shape(inputs)[1]
        kernel, bias = self._both(layer, "W_0"), self._both(layer, "B")
        recurrent, project = kernel[:, dim:], self._both(layer, "W_P_0")
        flat = tf.reshape(inputs, [2, -1, dim])
        gates = tf.matmul(flat, kernel[:, :dim]) + bias[:, tf.newaxis]
        gates = tf.reshape(gates, [2, steps, -1, 4 * self.shape.lstm_dim])
        gates = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(gates, [1, 0, 2, 3]))

        def run_step(step: Any, cell: Any, output: Any, outputs: Any) -> tuple[Any, ...]:
            cell, output = self._step(gates.read(step) + tf.matmul(output, recurrent), cell, project)
            return step + 1, cell, output, outputs.write(step, output)

        texts = tf.shape(inputs)[2]
        begin = (0, tf.zeros([2, texts, self.shape.lstm_dim]), tf.zeros([2, texts, dim]))
        outputs = tf.TensorArray(tf.float32, steps)
        *_, outputs = tf.while_loop(lambda step, *_: step < steps, run_step, (*begin, outputs))
        return tf.ensure_shape(tf.transpose(outputs.stack(), [1, 0, 2, 3]), inputs.shape)

    def _step(self, gates: Any, cell: Any, project: Any) -> tuple[Any, Any]:
        enter, candidate, forget, leave = tf.split(gates, 4, axis=-1)
        cell = tf.sigmoid(forget + _FORGET_BIAS) * cell + tf.sigmoid(enter) * tf.tanh(candidate)
        cell = _clipped(cell, self.shape.cell_clip)
        output = tf.matmul(tf.sigmoid(leave) * tf.tanh(cell), project)
        return cell, _clipped(output, self.shape.projection_clip)


def _clipped(values: Any, limit: float | None) -> Any:
    return values if limit is None else tf.clip_by_value(values, -limit, limit)

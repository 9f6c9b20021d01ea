"""A bidirectional LSTM layer with projection, both directions in one loop. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.elmo_options import DIRECTIONS, BilmOptions, cell_prefix

# The order in which gates are stored. Source: LSTMCell of TensorFlow 1.
GATES = ("input", "candidate", "forget", "output")
# Added to the forget gate, and not part of the stored bias. Source: the same.
_FORGET_BIAS = 1.0
Weights = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class LayerState:
    """The recurrent state of one layer, by direction.

    ``cells``: float32[2, texts, lstm_dim]. ``outputs``: float32[2, texts, projection_dim].
    """

    cells: tf.Tensor
    outputs: tf.Tensor


class BidirectionalLstm(tf.Module):
    """One layer of a biLM. The directions are independent of each other.

    Args:
        options: the shape of the model.
        weights: checked float32 arrays, named as in ``weight_shapes``.
        layer: counted from 0.

    Source: Sak et al., arXiv:1402.1128, as implemented by LSTMCell and MultiRNNCell of TensorFlow 1.
    """

    def __init__(self, options: BilmOptions, weights: Mapping[str, np.ndarray], layer: int) -> None:
        super().__init__(name=f"lstm_{layer}")
        self._options = options
        self._adds_input = options.use_skip_connections and layer > 0
        prefixes = [cell_prefix(direction, layer) for direction in range(len(DIRECTIONS))]
        arrays = [gate_arrays(weights[f"{prefix}/W_0"], weights[f"{prefix}/B"]) for prefix in prefixes]
        if options.projects_cells:
            for of_direction, prefix in zip(arrays, prefixes, strict=True):
                of_direction["projection_kernel"] = weights[f"{prefix}/W_P_0"]
        self._directions = [
            {
                name: tf.Variable(value, name=f"{direction}/{name}", dtype=tf.float32, trainable=False)
                for name, value in of_direction.items()
            }
            for direction, of_direction in zip(DIRECTIONS, arrays, strict=True)
        ]

    def run(
        self,
        inputs: tuple[tf.Tensor, tf.Tensor],
        dtype: tf.DType,
        state: LayerState | None = None,
        lengths: tf.Tensor | None = None,
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], LayerState]:
        """Runs over all time steps.

        Args:
            inputs: dtype[words, texts, projection_dim] per direction, in the order that direction reads.
            dtype: the dtype of the matrix products. The cell stays float32.
            state: the initial state; None is zero.
            lengths: int32[texts]. If given, the state of a text is frozen past its last word. Needed for the
                final state only, since the caller drops outputs past the end.

        Returns:
            dtype[words, texts, projection_dim] per direction, in the same order, and the final state.
        """
        weights = [self._read(direction, dtype) for direction in range(len(DIRECTIONS))]
        num_steps, num_texts = tf.shape(inputs[0])[0], tf.shape(inputs[0])[1]
        arrays = tuple(tf.TensorArray(dtype, num_steps, element_shape=self._shape(True)) for _ in DIRECTIONS)

        def run_step(step: tf.Tensor, cells: Any, outputs: Any, arrays: Any) -> tuple[Any, ...]:
            results = [
                self._step(direction, self._gates(direction, x[step], output, w), cell, w)
                for direction, (x, output, cell, w) in enumerate(
                    zip(inputs, outputs, cells, weights, strict=True)
                )
            ]
            new_cells, new_outputs = zip(*results, strict=True)
            arrays = tuple(a.write(step, out) for a, out in zip(arrays, new_outputs, strict=True))
            if lengths is not None:
                moves = (step < lengths)[:, tf.newaxis]
                new_cells = _where(moves, new_cells, cells)
                new_outputs = _where(moves, new_outputs, outputs)
            return step + 1, tuple(new_cells), tuple(new_outputs), arrays

        begin = (tf.constant(0), *self._begin(state, num_texts, dtype), arrays)
        _, cells, outputs, arrays = self._loop(lambda step, *_: step < num_steps, run_step, begin)
        stacked = [array.stack() for array in arrays]
        if self._adds_input:
            stacked = [out + x for out, x in zip(stacked, inputs, strict=True)]
        final = LayerState(tf.stack(cells), tf.cast(tf.stack(outputs), tf.float32))
        return (stacked[0], stacked[1]), final

    def _read(self, direction: int, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """Reads a direction's weights before the loop: kernels in ``dtype``, biases in float32."""
        return {
            name: tf.cast(variable, dtype) if variable.shape.rank == 2 else tf.identity(variable)
            for name, variable in self._directions[direction].items()
        }

    def _gates(
        self, direction: int, inputs: tf.Tensor, output: tf.Tensor, weights: Weights
    ) -> list[tf.Tensor]:
        """See ``compute_gates``."""
        del direction
        return compute_gates(inputs, output, weights)

    def _project(self, direction: int, output: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Projects the cell's output: [texts, lstm_dim] to [texts, projection_dim]."""
        del direction
        return tf.matmul(output, weights["projection_kernel"])

    def _step(
        self, direction: int, gates: Sequence[tf.Tensor], cell: tf.Tensor, weights: Weights
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the new cell and the output of one time step and direction."""
        enter, candidate, forget, leave = gates
        cell = _clip(forget * cell + enter * candidate, self._options.cell_clip)
        output = tf.cast(leave * tf.tanh(cell), weights["input/kernel"].dtype)
        if self._options.projects_cells:
            output = self._project(direction, output, weights)
            output = _clip(output, self._options.projection_clip)
        return cell, output

    def _begin(self, state: LayerState | None, num_texts: tf.Tensor, dtype: tf.DType) -> tuple[Any, Any]:
        if state is None:
            cell = tf.zeros([num_texts, self._options.lstm_dim])
            output = tf.zeros([num_texts, self._options.projection_dim], dtype)
            return (cell, cell), (output, output)
        return tuple(tf.unstack(state.cells, 2)), tuple(tf.unstack(tf.cast(state.outputs, dtype), 2))

    def _loop(self, condition: Any, body: Any, begin: tuple[Any, ...]) -> tuple[Any, ...]:
        cell, output = self._shape(False), self._shape(True)
        shapes = (tf.TensorShape([]), (cell, cell), (output, output), (None, None))
        result: tuple[Any, ...] = tf.while_loop(
            condition, body, begin, shape_invariants=shapes, parallel_iterations=1
        )
        return result

    def _shape(self, is_output: bool) -> tf.TensorShape:
        return tf.TensorShape([None, self._options.projection_dim if is_output else self._options.lstm_dim])


def _clip(values: tf.Tensor, limit: float | None) -> tf.Tensor:
    if limit is None:
        return values
    bound = tf.constant(limit, values.dtype)
    # tf.clip_by_value would use two operations.
    return tf.raw_ops.ClipByValue(t=values, clip_value_min=-bound, clip_value_max=bound)


def _where(moves: tf.Tensor, new: Any, old: Any) -> tuple[tf.Tensor, ...]:
    return tuple(tf.where(moves, after, before) for after, before in zip(new, old, strict=True))


def gate_arrays(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Splits the weights by gate and adds the constant bias of the forget gate.

    Args:
        kernel: float32[2 * projection_dim, 4 * lstm_dim]; rows for the input, then for the previous output.
        bias: float32[4 * lstm_dim], without the forget bias.
    """
    kernels = zip(GATES, np.split(kernel, 4, axis=1), strict=True)
    arrays = {f"{gate}/kernel": np.ascontiguousarray(part) for gate, part in kernels}
    arrays |= {f"{gate}/bias": part for gate, part in zip(GATES, np.split(bias, 4), strict=True)}
    arrays["forget/bias"] = arrays["forget/bias"] + np.float32(_FORGET_BIAS)
    return arrays


def compute_gates(inputs: tf.Tensor, output: tf.Tensor, weights: Weights) -> list[tf.Tensor]:
    """Returns input, candidate, forget and output gate, float32[texts, lstm_dim] each.

    One product per gate, then bias and activation separately in float32: fused by oneDNN they cost more than
    they save, see docs/decisions/elmo-recurrence.md.

    Args:
        inputs: dtype[texts, projection_dim], one step.
        output: dtype[texts, projection_dim] of the previous step.
        weights: named as by ``gate_arrays``; kernels of that dtype, biases float32.
    """
    both = tf.concat([inputs, output], axis=-1)
    gates = []
    for gate in GATES:
        total = tf.cast(tf.matmul(both, weights[f"{gate}/kernel"]), tf.float32) + weights[f"{gate}/bias"]
        gates.append(tf.tanh(total) if gate == "candidate" else tf.sigmoid(total))
    return gates

"""The signatures of ELMo's SavedModel, with the interface of TF-Hub's google/elmo. Imports TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from model_bundle.builders.graphs.elmo import Elmo
from model_bundle.builders.graphs.elmo_lstm import LayerState
from model_bundle.bundle.manifest import BOUNDARY_SIGNATURES, STATEFUL_SIGNATURE


def signatures(elmo: Elmo) -> dict[str, Any]:
    """Returns the concrete functions that a SavedModel of ELMo offers, by name.

    ``default`` and ``tokens`` as in google/elmo, each also in bfloat16; ``tokens_stateful``; and the model
    with the opposite setting of boundaries, for comparison with existing vectors. All return the outputs
    of ``Elmo.encode``.

    Source: the documentation of google/elmo/3 on TF-Hub, for names and shapes.
    """
    functions = {}
    for dtype, suffix in ((tf.float32, ""), (tf.bfloat16, "_bfloat16")):
        functions[f"default{suffix}"] = default_signature(elmo, dtype)
        functions[f"tokens{suffix}"] = tokens_signature(elmo, dtype)
    functions[STATEFUL_SIGNATURE] = stateful_signature(elmo)
    other = not elmo.boundaries
    functions[BOUNDARY_SIGNATURES[other]] = tokens_signature(elmo, tf.float32, boundaries=other)
    return functions


def default_signature(elmo: Elmo, dtype: tf.DType) -> Any:
    """Returns the signature that takes ``strings`` string[texts] and splits them at spaces."""

    def default(strings: tf.Tensor) -> dict[str, tf.Tensor]:
        return elmo.encode(*split_at_spaces(strings), dtype)[0]

    return _trace(default, tf.TensorSpec([None], tf.string, name="strings"))


def tokens_signature(elmo: Elmo, dtype: tf.DType, *, boundaries: bool | None = None) -> Any:
    """Returns the signature that takes ``tokens`` string[texts, words] and ``sequence_len`` int32[texts]."""

    def tokens(tokens: tf.Tensor, sequence_len: tf.Tensor) -> dict[str, tf.Tensor]:
        return elmo.encode(tokens, sequence_len, dtype, boundaries=boundaries)[0]

    return _trace(tokens, *_token_specs())


def stateful_signature(elmo: Elmo) -> Any:
    """Returns a ``tokens`` signature with the state, for replaying libraries that carry it across batches.

    ``cells`` is float32[layers, 2, texts, lstm_dim], ``states`` float32[layers, 2, texts, projection_dim];
    they begin with zeros.
    """
    options = elmo.options

    def tokens_stateful(
        tokens: tf.Tensor, sequence_len: tf.Tensor, cells: tf.Tensor, states: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        begin = [LayerState(cells[layer], states[layer]) for layer in range(options.num_layers)]
        outputs, end = elmo.encode(tokens, sequence_len, tf.float32, begin)
        end_cells = tf.stack([state.cells for state in end])
        return outputs | {"cells": end_cells, "states": tf.stack([state.outputs for state in end])}

    leading = [options.num_layers, 2, None]
    return _trace(
        tokens_stateful,
        *_token_specs(),
        tf.TensorSpec([*leading, options.lstm_dim], tf.float32, name="cells"),
        tf.TensorSpec([*leading, options.projection_dim], tf.float32, name="states"),
    )


def split_at_spaces(strings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits string[texts] at the space character only; empty words are dropped.

    Returns:
        string[texts, words], and int32[texts] words per text.

    Source: the StringSplit operation inside google/elmo.
    """
    words = tf.compat.v1.string_split(strings, sep=" ", skip_empty=True)
    rows = tf.cast(words.indices[:, 0], tf.int32)
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, tf.size(strings))
    return tf.sparse.to_dense(words, default_value=""), lengths


def _trace(function: Any, *specs: tf.TensorSpec) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def _token_specs() -> tuple[tf.TensorSpec, tf.TensorSpec]:
    return (
        tf.TensorSpec([None, None], tf.string, name="tokens"),
        tf.TensorSpec([None], tf.int32, name="sequence_len"),
    )

"""Runs texts through the float encoder and records what enters each dense layer. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.text.prepared import PreparedTexts

# Padded cells per batch: inputs of a layer of 3,072 channels then take 50 MB.
_BATCH_TOKENS = 4096
# Rows of each layer's input that scales are chosen with.
_ROWS = 1024


class Observed:
    """The inputs of one dense layer.

    ``largest``: float32[inputs], the largest absolute value of each channel. ``rows``: float32[rows, inputs],
    some of them, evenly from all batches.
    """

    def __init__(self, num_inputs: int) -> None:
        self.largest = np.zeros(num_inputs, np.float32)
        self._parts: list[np.ndarray] = []

    def add(self, flat: np.ndarray, kept: int) -> None:
        """Adds the rows of a batch, of which ``kept`` are kept."""
        self.largest = np.maximum(self.largest, np.abs(flat).max(axis=0))
        self._parts.append(flat[:: max(len(flat) // kept, 1)][:kept])

    @property
    def rows(self) -> np.ndarray:
        """The kept rows."""
        return np.concatenate(self._parts)


class RecordingEncoder(BertEncoder):
    """A float encoder, to be called eagerly, that records the inputs of its dense layers."""

    def __init__(self, encoder: BertEncoder) -> None:
        tf.Module.__init__(self, name="recording")
        self._config = encoder._config
        self._variables = encoder._variables
        self._found: dict[str, Observed] = {}
        self._is_real = np.zeros(0, bool)
        self._kept = _ROWS

    def observe(self, prepared: PreparedTexts) -> dict[str, Observed]:
        """Encodes texts and returns what entered each dense layer, by its name; padding is left out."""
        batches = list(batches_of(prepared))
        self._kept = max(_ROWS // len(batches), 1)
        for batch in batches:
            arrays = prepared.batch(batch)
            self._is_real = arrays["mask"].reshape(-1) > 0
            self.encode(tf.constant(arrays["ids"], tf.int32), tf.constant(arrays["mask"], tf.int32))
        return self._found

    def _dense(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        observed = self._found.setdefault(name, Observed(flat.shape[-1]))
        observed.add(flat.numpy()[self._is_real], self._kept)
        return super()._dense(name, flat, dtype)


def batches_of(prepared: PreparedTexts) -> Iterator[np.ndarray]:
    """Yields the positions of texts, sorted by length, in batches of at most 4096 padded cells."""
    order = np.argsort(prepared.lengths, kind="stable")
    start = 0
    while start < len(order):
        count = 1
        while (
            start + count < len(order)
            and prepared.lengths[order[start + count]] * (count + 1) <= _BATCH_TOKENS
        ):
            count += 1
        yield order[start : start + count]
        start += count

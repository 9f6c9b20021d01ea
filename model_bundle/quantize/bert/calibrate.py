"""Runs texts through the float encoder and records what enters each dense layer. Imports TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.quantize.observed import KEPT_ROWS, Observed, batches_of
from model_bundle.text.prepared import PreparedTexts


class RecordingEncoder(BertEncoder):
    """A float encoder, to be called eagerly, that records the inputs of its dense layers."""

    def __init__(self, encoder: BertEncoder) -> None:
        tf.Module.__init__(self, name="recording")
        self._config = encoder._config
        self._variables = encoder._variables
        self._found: dict[str, Observed] = {}
        self._is_real = np.zeros(0, bool)
        self._kept = KEPT_ROWS

    def observe(self, prepared: PreparedTexts) -> dict[str, Observed]:
        """Encodes texts and returns what entered each dense layer, by its name; padding is left out."""
        batches = list(batches_of(prepared))
        self._kept = max(KEPT_ROWS // len(batches), 1)
        for batch in batches:
            arrays = prepared.batch(batch)
            self._is_real = arrays["mask"].reshape(-1) > 0
            self.encode(tf.constant(arrays["ids"], tf.int32), tf.constant(arrays["mask"], tf.int32))
        return self._found

    def _dense(self, name: str, flat: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        observed = self._found.setdefault(name, Observed(flat.shape[-1]))
        observed.add(flat.numpy()[self._is_real], self._kept)
        return super()._dense(name, flat, dtype)

"""simple-elmo 0.9.2: bilm's own graph on TensorFlow 2."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.systems.loops import Encoded, loop_parser, run_loop


class SimpleElmo:
    """``get_elmo_vector_average`` in batches of 32, sorted by length, in one session."""

    def __init__(self, flags: argparse.Namespace) -> None:
        # Its graph needs Keras 2.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        from simple_elmo import ElmoModel

        self._model = ElmoModel()
        self._model.load(str(flags.model), max_batch_size=32)
        import tensorflow as tf
        from simple_elmo.elmo import weight_layers

        # One session, initialised like its own; a session per call would reload the weights.
        self._model.elmo_sentence_input = weight_layers(
            "input", self._model.sentence_embeddings_op, use_layers="average"
        )
        self._session = tf.compat.v1.Session()
        self._session.run(tf.compat.v1.global_variables_initializer())
        self.details: dict[str, Any] = {"setting": "batch 32"}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See ``Loop.encode``. Texts are sorted by length, to keep padding as low as ours."""
        started = time.perf_counter()
        words = [text.split() for text in texts]
        order = sorted(range(len(words)), key=lambda index: -len(words[index]))
        prepared = time.perf_counter()
        rows = self._model.get_elmo_vector_average(
            [words[index] for index in order], warmup=False, session=self._session
        )
        seconds = time.perf_counter() - prepared
        vectors = np.zeros((len(words), rows.shape[1]), np.float32)
        vectors[order] = rows
        num_words = sum(map(len, words))
        # It does not report padding.
        return Encoded(vectors, num_words, num_words, prepared - started, seconds)


def main() -> None:
    packages = ["simple-elmo", "tensorflow", "tf-keras", "numpy"]
    run_loop(loop_parser().parse_args(), lambda flags, _: SimpleElmo(flags), packages)


if __name__ == "__main__":
    main()

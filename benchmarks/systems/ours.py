"""This project's own encoder, without Beam."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.systems.loops import Encoded, loop_parser, run_loop
from benchmarks.systems.stopwatch import Stopwatch


class OurLoop:
    """``Encoder`` with its defaults, apart from the precision."""

    def __init__(self, flags: argparse.Namespace) -> None:
        started = time.perf_counter()
        from model_bundle.runtime.tensorflow_setup import import_tensorflow

        import_tensorflow()
        from model_bundle.inference.encoder import DEFAULT_BUFFER_TEXTS, Encoder
        from model_bundle.text.subwords import SubwordInput

        imported = time.perf_counter()
        self._encoder = Encoder(flags.bundle, precision=flags.precision)
        loaded = time.perf_counter()
        self._encoder.encode(["The first text that this process encodes."])
        first = time.perf_counter()
        self._num_tokens = self._num_padded = 0
        self._in_model = Stopwatch(self._encoder.runtime, "run", self._count)
        self._in_tokenizer = Stopwatch(SubwordInput, "prepare")
        self.details: dict[str, Any] = {
            "setting": _setting(self._encoder),
            "buffer_texts": DEFAULT_BUFFER_TEXTS,
            "import_seconds": imported - started,
            "ready_seconds": loaded - imported,
            "first_result_seconds": first - imported,
            "variables_reason": self._encoder.runtime.unfrozen_reason,
        }

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See ``Loop.encode``."""
        self._reset()
        vectors = self._encoder.encode(texts)
        return Encoded(
            vectors,
            self._num_tokens,
            self._num_padded,
            self._in_tokenizer.reset(),
            self._in_model.reset(),
        )

    def _reset(self) -> None:
        self._num_tokens = self._num_padded = 0
        self._in_tokenizer.reset()
        self._in_model.reset()

    def _count(self, inputs: Mapping[str, np.ndarray]) -> None:
        self._num_tokens += int(inputs["mask"].sum())
        self._num_padded += inputs["mask"].size


def _setting(encoder: Any) -> str:
    """Returns the settings chosen at the start."""
    return f"{encoder.max_batch_tokens} cells, {encoder.runtime.parallelism} batches at once"


def main() -> None:
    parser = loop_parser()
    parser.add_argument("--bundle", required=True)
    packages = ["tensorflow", "tokenizers", "numpy"]
    run_loop(parser.parse_args(), lambda flags, _: OurLoop(flags), packages)


if __name__ == "__main__":
    main()

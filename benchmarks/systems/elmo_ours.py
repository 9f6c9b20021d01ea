"""This project's encoder on an ELMo bundle, without Beam."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems.loops import Encoded, loop_parser, run_loop
from benchmarks.systems.stopwatch import Stopwatch


class OurElmo:
    """``Encoder`` with its defaults; the bundle is built once for both precisions."""

    def __init__(self, flags: argparse.Namespace) -> None:
        from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle
        from model_bundle.inference.encoder import Encoder
        from model_bundle.text.words import WordInput

        bundle: Path = flags.work / "bundle"
        if not bundle.exists():
            files = flags.model / "options.json", flags.model / "model.hdf5"
            build_elmo_bundle(*files, ElmoChoices(), bundle)
        self._encoder = Encoder(bundle, precision=flags.precision)
        self._num_words = self._num_padded = 0
        self._in_model = Stopwatch(self._encoder.runtime, "run", self._count)
        self._in_words = Stopwatch(WordInput, "prepare")
        self.details: dict[str, Any] = {"setting": f"{self._encoder.max_batch_tokens} cells"}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See ``Loop.encode``."""
        self._num_words = self._num_padded = 0
        vectors = self._encoder.encode(texts)
        seconds = self._in_words.reset(), self._in_model.reset()
        return Encoded(vectors, self._num_words, self._num_padded, *seconds)

    def _count(self, inputs: Mapping[str, np.ndarray]) -> None:
        self._num_words += int(inputs["lengths"].sum())
        self._num_padded += inputs["words"].size


def main() -> None:
    run_loop(loop_parser().parse_args(), lambda flags, _: OurElmo(flags), ["tensorflow", "numpy"])


if __name__ == "__main__":
    main()

"""ONNX Runtime on CPU: all graph optimisations, texts sorted by length, the best batch size."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.systems.export_onnx import export_once
from benchmarks.systems.loops import BATCH_SIZES, Encoded, choose, loop_parser, run_loop
from benchmarks.systems.sorted_texts import SortedTexts


class OnnxRuntimeLoop:
    """One session with its default number of threads, one per core."""

    def __init__(self, flags: argparse.Namespace, some_texts: Sequence[str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        path = export_once(flags.model, flags.work)
        self._model = flags.model
        self._session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        settings = {str(size): partial(self._encode, some_texts, size) for size in BATCH_SIZES}
        choice = choose(settings)
        self._batch_size = int(choice.best)
        self.details = {"setting": f"batch {choice.best}", "sample_seconds": choice.seconds}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See ``Loop.encode``."""
        return self._encode(texts, self._batch_size)

    def _encode(self, texts: Sequence[str], batch_size: int) -> Encoded:
        tokenized = SortedTexts(self._model, texts)
        batches = list(tokenized.batches(batch_size))
        started = time.perf_counter()
        outputs = [self._session.run(None, {"ids": b.ids, "mask": b.mask})[0] for b in batches]
        model_seconds = time.perf_counter() - started
        vectors = np.zeros((len(texts), outputs[0].shape[1]), dtype=np.float32)
        for batch, output in zip(batches, outputs, strict=True):
            vectors[batch.texts] = output
        num_padded = sum(batch.mask.size for batch in batches)
        return Encoded(vectors, tokenized.num_tokens, num_padded, tokenized.tokenize_seconds, model_seconds)


def main() -> None:
    parser = loop_parser()
    run_loop(parser.parse_args(), OnnxRuntimeLoop, ["onnxruntime", "onnx", "torch", "tokenizers"])


if __name__ == "__main__":
    main()

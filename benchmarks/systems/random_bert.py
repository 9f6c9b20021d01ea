"""Builds a bundle of BERT-base's shape with random weights: enough for speed and memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.bundle.manifest import TOKENIZER_FILE
from model_bundle.bundle.specs import Pooling, SourceSpec

# Source: bert-base-uncased's config.json.
BERT_BASE = BertConfig(
    num_layers=12,
    num_heads=12,
    dim=768,
    inner_dim=3072,
    vocab_size=30522,
    max_positions=512,
    num_types=2,
    norm_epsilon=1e-12,
)
# Source: initializer_range of the same file.
_DEVIATION = 0.02


def main() -> None:
    tokenizer_bundle, output = map(Path, sys.argv[1:])
    random = np.random.default_rng(1)
    weights = {
        # Not ones, because TensorFlow removes products with ones and with them the kernel of trained models.
        name: (float(name.endswith("gamma")) + _DEVIATION * random.standard_normal(shape, np.float32)).astype(
            np.float32
        )
        for name, shape in weight_shapes(BERT_BASE).items()
    }
    source = BertSource(
        name="random-bert-base",
        config=BERT_BASE,
        weights=weights,
        # The vocabulary is also that of bert-base-uncased.
        tokenizer_json=(tokenizer_bundle / TOKENIZER_FILE).read_text(encoding="utf-8"),
        lowercase=True,
        max_tokens=256,
        pooling=Pooling.MEAN,
        normalize=True,
        source=SourceSpec(kind="random", location="made for a benchmark"),
        licence="Apache-2.0",
        licence_text="Apache License, Version 2.0",
    )
    build_encoder_bundle(source, output)


if __name__ == "__main__":
    main()

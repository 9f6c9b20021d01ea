"""Models of some shape with random weights: enough for speed and memory, no measure of quality.

Writes ``OUTPUT/model``, a folder of transformers for peers, and ``OUTPUT/bundle``, the same as a bundle that
also computes in int8.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.bundle.specs import Pooling, SourceSpec
from model_bundle.quantize.build import quantize_bundle
from model_bundle.quantize.search import Bounds
from model_bundle.text.sample_data import sample_texts

# Source: bert-base-uncased's config.json.
_BERT_BASE = BertConfig(
    num_layers=12,
    num_heads=12,
    dim=768,
    inner_dim=3072,
    vocab_size=30522,
    max_positions=512,
    num_types=2,
    norm_epsilon=1e-12,
)
# Source: paraphrase-multilingual-MiniLM-L12-v2's config.json. Its tokenizer is XLM-RoBERTa's; here texts are
# tokenized by MiniLM's, so of the rows of word embeddings only the first are read.
_MULTILINGUAL = BertConfig(
    num_layers=12,
    num_heads=12,
    dim=384,
    inner_dim=1536,
    vocab_size=250037,
    max_positions=512,
    num_types=2,
    norm_epsilon=1e-12,
)
SHAPES = {"bert_base": _BERT_BASE, "multilingual": _MULTILINGUAL}
# Source: initializer_range of the same files.
_DEVIATION = 0.02
# Scales of random weights are worth nothing; so many texts make the graph.
_CALIBRATION_TEXTS = 48
_STORED = {
    "embeddings/word": "embeddings.word_embeddings.weight",
    "embeddings/position": "embeddings.position_embeddings.weight",
    "embeddings/type": "embeddings.token_type_embeddings.weight",
    "embeddings/norm": "embeddings.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "attention/norm": "attention.output.LayerNorm",
    "ffn/inner": "intermediate.dense",
    "ffn/outer": "output.dense",
    "ffn/norm": "output.LayerNorm",
}
_PARTS = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


def stored_name(name: str) -> str:
    """Returns the name of a weight in a file of transformers.

    >>> stored_name("layer_3/ffn/inner/kernel"), stored_name("embeddings/word")
    ('encoder.layer.3.intermediate.dense.weight', 'embeddings.word_embeddings.weight')
    """
    if name in _STORED:
        return _STORED[name]
    module, _, part = name.rpartition("/")
    if module.startswith("layer_"):
        layer, _, module = module.partition("/")
        return f"encoder.layer.{layer.removeprefix('layer_')}.{_STORED[module]}.{_PARTS[part]}"
    return f"{_STORED[module]}.{_PARTS[part]}"


def _write_folder(
    config: BertConfig, weights: Mapping[str, np.ndarray], tokenizer: Path, folder: Path
) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "sentence_bert_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    described = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.dim,
        "intermediate_size": config.inner_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.num_types,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_act": "gelu",
    }
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    turned = {
        stored_name(name): np.ascontiguousarray(value.T if name.endswith("kernel") else value)
        for name, value in weights.items()
    }
    save_file(turned, str(folder / "model.safetensors"), {"format": "pt"})


def main() -> None:
    shape, tokenizer, output = sys.argv[1], *map(Path, sys.argv[2:])
    config, random = SHAPES[shape], np.random.default_rng(1)
    weights = {
        # Not ones, because TensorFlow removes products with ones and with them the kernel of trained models.
        name: (float(name.endswith("gamma")) + _DEVIATION * random.standard_normal(size, np.float32)).astype(
            np.float32
        )
        for name, size in weight_shapes(config).items()
    }
    _write_folder(config, weights, tokenizer, output / "model")
    source = BertSource(
        name=f"random-{shape}",
        config=config,
        weights=weights,
        tokenizer_json=(tokenizer / "tokenizer.json").read_text(encoding="utf-8"),
        lowercase=True,
        max_tokens=256,
        pooling=Pooling.MEAN,
        normalize=True,
        source=SourceSpec(kind="random", location="made for a benchmark"),
        licence="Apache-2.0",
        licence_text="Apache License, Version 2.0",
    )
    bundle = build_encoder_bundle(source, output / "float")
    anything = Bounds(min_cosine=-1.0, mean_cosine=-1.0)
    quantize_bundle(bundle, sample_texts(3)[:_CALIBRATION_TEXTS], output / "bundle", print, anything)
    shutil.rmtree(output / "float")


if __name__ == "__main__":
    main()

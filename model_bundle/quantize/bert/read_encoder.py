"""Reads the shape and weights of an encoder back from the graph of its bundle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision, SentenceSpec
from model_bundle.errors import SettingsError
from model_bundle.runtime.int8_products import LARGEST, scales_of
from model_bundle.runtime.request import check_precision
from model_bundle.runtime.saved_model import load_saved_model

_HEAD_OPERATIONS = {"gelu": ("Erf",), "tanh": ("Tanh",), "mish": ("Tanh",)}
_PARTS = ("query", "key", "value")


def read_encoder(bundle: ModelBundle) -> tuple[BertConfig, dict[str, np.ndarray], Any]:
    """Returns an encoder's shape, its weights, named as in ``weight_shapes``, and its ``SentenceHead``.

    The bundle does not store the shape. Whoever exports the encoder again must compare golden vectors.

    Raises:
        SettingsError: the graph is not an encoder of this package.
    """
    manifest = bundle.manifest
    check_precision(manifest, Precision.FLOAT32)
    if manifest.family != "bert" or manifest.bfloat16_signature is None:
        raise SettingsError(
            f"{manifest.name} is a {manifest.family} model; int8 is offered for BERT, DistilBERT and RoBERTa "
            "encoders that this package built. Use --precision float32 or bfloat16."
        )
    loaded = load_saved_model(bundle.path, manifest, bundle.allowed_ops)
    signature = loaded.signatures[manifest.signature]
    weights = {variable.name.split(":")[0]: variable.numpy() for variable in signature.variables}
    if any(name.startswith("head/") for name in weights):
        raise SettingsError(
            f"{manifest.name} has a head that was trained on an encoder: quantize the encoder, then train."
        )
    try:
        weights, head = _without_head(manifest.sentence, weights)
        nodes = _Nodes(signature)
        # What the head's activations are computed with says nothing of the encoder's.
        for module in () if manifest.sentence is None else manifest.sentence.modules:
            nodes.counts.subtract(_HEAD_OPERATIONS.get(module.activation or "", ()))
        config = _config(nodes, weights, manifest.tokenizer.pad_id)
        per_token = manifest.outputs[manifest.default_output].per_token
        return replace(config, labels_per_token=per_token), _split(weights), head
    except (KeyError, IndexError, ValueError) as error:
        raise SettingsError(
            f"{manifest.name}: its graph is not one that this release knows ({error!r}). Build the bundle "
            "again from its source, then quantize it."
        ) from error


def _without_head(
    spec: SentenceSpec | None, weights: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Any]:
    """Splits the weights of a ``SentenceHead`` off, and builds it; None if the bundle has none."""
    from model_bundle.builders.graphs.sentence import PREFIX, SentenceHead

    own = {name.removeprefix(PREFIX): w for name, w in weights.items() if name.startswith(PREFIX)}
    rest = {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}
    return rest, None if spec is None else SentenceHead(spec, own)


def quantize_words(
    config: BertConfig, weights: dict[str, np.ndarray]
) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """Returns the same encoder with word embeddings of 8 bits, one scale per row."""
    if config.quantized_words:
        return config, weights
    table = weights["embeddings/word"]
    scales = scales_of(table.T) / np.float32(LARGEST)
    # A row with NaN has NaN for its scale, and stays NaN.
    rounded = np.nan_to_num(np.rint(table / scales[:, np.newaxis])).astype(np.int8)
    words: dict[str, np.ndarray] = {"embeddings/word": rounded, "embeddings/word_scale": scales}
    return replace(config, quantized_words=True), weights | words


class _Nodes:
    """The nodes of a signature, functions inlined."""

    def __init__(self, signature: Any) -> None:
        from tensorflow.python.framework import convert_to_constants as converter

        graph_def = converter._run_inline_graph_optimization(signature, False, True)
        self.by_name = {node.name: node for node in graph_def.node}
        self.counts = Counter(node.op for node in graph_def.node)

    def first(self, operation: str, num_inputs: int = 0) -> Any:
        """Returns a node of an operation with at least so many inputs; KeyError if there is none."""
        for node in self.by_name.values():
            if node.op == operation and len(node.input) >= num_inputs:
                return node
        raise KeyError(operation)

    def constant(self, name: str) -> Any:
        """Returns the value of a constant."""
        import tensorflow as tf

        return tf.make_ndarray(self.by_name[name.split(":")[0]].attr["value"].tensor)


def _config(nodes: _Nodes, weights: dict[str, np.ndarray], pad_id: int) -> BertConfig:
    word, position = weights["embeddings/word"].shape, weights["embeddings/position"].shape
    num_layers = sum(name.endswith("/attention/qkv/kernel") for name in weights)
    is_gelu = nodes.counts["Erf"] + nodes.counts["Erfc"] > 0
    is_tanh = not is_gelu and nodes.counts["Tanh"] >= num_layers
    # Shapes [texts, tokens, 3, heads, size] of query, key and value.
    heads = int(nodes.constant(nodes.first("Pack", 5).input[3]))
    types = weights.get("embeddings/type")
    classifier = weights.get("classifier/kernel")
    pooler_tanh = nodes.counts["Tanh"] - (num_layers if is_tanh else 0) > 0
    return BertConfig(
        num_layers=num_layers,
        num_heads=heads,
        dim=word[1],
        inner_dim=weights["layer_0/ffn/inner/kernel"].shape[1],
        vocab_size=word[0],
        max_positions=position[0],
        num_types=0 if types is None else types.shape[0],
        norm_epsilon=float(nodes.first("FusedBatchNormV3").attr["epsilon"].f),
        activation="gelu" if is_gelu else "gelu_tanh" if is_tanh else "relu",
        position_offset=pad_id + 1 if nodes.counts["Cumsum"] else 0,
        pad_id=pad_id,
        has_pooler="pooler/kernel" in weights,
        pooler_activation="tanh" if pooler_tanh else "relu",
        num_labels=0 if classifier is None else classifier.shape[1],
        norm_first="embeddings/norm/gamma" not in weights,
        quantized_words="embeddings/word_scale" in weights,
    )


def _split(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undoes the concatenation of query, key and value."""
    split: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        if "/qkv/" not in name:
            split[name] = value
            continue
        for part, third in zip(_PARTS, np.split(value, 3, axis=-1), strict=True):
            split[name.replace("/qkv/", f"/{part}/")] = third
    return split

"""Maps the names under which BERT weights are stored to the names of our graph.

PyTorch writes ``bert.encoder.layer.0.output.dense.weight``, transformers' TensorFlow models
``tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0``, Google
``bert/encoder/layer_0/output/dense/kernel``. All three are our ``layer_0/ffn/outer/kernel``; only the first
is stored transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TABLES = {
    "embeddings/word_embeddings": "embeddings/word",
    "embeddings/position_embeddings": "embeddings/position",
    "embeddings/token_type_embeddings": "embeddings/type",
}
_NORMS = {"embeddings/LayerNorm": "embeddings/norm"}
_DENSE = {"pooler/dense": "pooler"}
# Within a layer: BERT and RoBERTa under encoder/layer, DistilBERT under transformer/layer.
_LAYER_DENSE = {
    "encoder": {
        "attention/self/query": "attention/query",
        "attention/self/key": "attention/key",
        "attention/self/value": "attention/value",
        "attention/output/dense": "attention/output",
        "intermediate/dense": "ffn/inner",
        "output/dense": "ffn/outer",
    },
    "transformer": {
        "attention/q_lin": "attention/query",
        "attention/k_lin": "attention/key",
        "attention/v_lin": "attention/value",
        "attention/out_lin": "attention/output",
        "ffn/lin1": "ffn/inner",
        "ffn/lin2": "ffn/outer",
    },
}
_LAYER_NORMS = {
    "encoder": {"attention/output/LayerNorm": "attention/norm", "output/LayerNorm": "ffn/norm"},
    "transformer": {"sa_layer_norm": "attention/norm", "output_layer_norm": "ffn/norm"},
}
# Prefixes of an encoder inside a larger model; a Keras file repeats some of them. TFXLMRobertaModel is
# ``tfxlm_roberta_model``, since Keras begins a word only where a capital letter meets a small one.
_PREFIXES = r"(?:(?:bert|distilbert|roberta|tf(?:xlm)?_\w+)/)"
_PREFIX = re.compile(rf"^{_PREFIXES}+")
# Whatever encloses the encoder: a variable scope, or another module.
_SCOPE = re.compile(
    rf"^(?P<scope>(?:[^/]+/)*?){_PREFIXES}*embeddings/word_embeddings(?:/(?:weight|embeddings))?$"
)
_LAYER = re.compile(r"^(encoder|transformer)/layer(?:/|_\._|_)(\d+)/(.+)$")
# The part and the last word of a name. Google's tables have no last word.
_LAST = re.compile(r"^(.+)/(weight|kernel|bias|gamma|beta|embeddings)$")

CLASSIFICATION_HEAD = "classification head"
# Weights that an encoder does not need, by kind. Any other unexpected weight is an error.
_LEFT_OUT = (
    (re.compile(r"(.*/)?(adam_[mv]|global_step|beta[12]_power)(_\d+)?"), "optimizer state"),
    (re.compile(r"(embeddings/)?(position_ids|token_type_ids)"), "index buffers"),
    (re.compile(r"(cls|mlm___cls|nsp___cls)/.+"), "pre-training heads"),
    (re.compile(r"(lm_head|vocab_transform|vocab_layer_norm|vocab_projector)/.+"), "language model head"),
    (re.compile(r"(pre_classifier|classifier)/.+|output_(weights|bias)"), CLASSIFICATION_HEAD),
    (re.compile(r"qa_outputs/.+"), "question answering head"),
)


@dataclass(frozen=True)
class GraphWeight:
    """A weight of our graph. ``transposed``: whether it is stored as [outputs, inputs]."""

    name: str
    transposed: bool = False


def graph_weight(stored: str) -> GraphWeight | None:
    """Returns the graph's weight for a stored weight; None if it is not part of an encoder.

    >>> graph_weight("bert.encoder.layer.3.attention.self.key.weight")
    GraphWeight(name='layer_3/attention/key/kernel', transposed=True)
    >>> graph_weight("bert/encoder/layer_3/attention/self/key/kernel")
    GraphWeight(name='layer_3/attention/key/kernel', transposed=False)
    """
    name = _PREFIX.sub("", slashed(stored))
    match = _LAST.match(name)
    part, last = (match[1], match[2]) if match else (name, "")
    if part in _TABLES and last in ("", "weight", "embeddings"):
        return GraphWeight(_TABLES[part])
    layer = _LAYER.match(part)
    if layer is None:
        return _weight_of(part, last, _DENSE, _NORMS, "")
    tower = layer[1]
    return _weight_of(layer[3], last, _LAYER_DENSE[tower], _LAYER_NORMS[tower], f"layer_{layer[2]}/")


def ignored_kind(stored: str) -> str | None:
    """Returns the kind of a stored weight that an encoder does not need; None if unknown.

    >>> ignored_kind("cls.predictions.bias")
    'pre-training heads'
    """
    name = _PREFIX.sub("", slashed(stored))
    return next((what for pattern, what in _LEFT_OUT if pattern.fullmatch(name)), None)


def enclosing_scope(names: Iterable[str]) -> str:
    """Returns the prefix of an encoder's names if it is a part of something else; empty if it is not.

    >>> enclosing_scope(["step", "module/bert/embeddings/word_embeddings", "module/bert/pooler/dense/bias"])
    'module/'
    """
    found = {name[: match.end("scope")] for name in names if (match := _SCOPE.match(slashed(name)))}
    return found.pop() if len(found) == 1 else ""


def slashed(stored: str) -> str:
    """Converts PyTorch's dots to slashes. TensorFlow's ``layer_._0`` is kept, its ``:0`` removed."""
    if "/" in stored:
        return stored.removesuffix(":0")
    return stored.removesuffix(":0").replace(".", "/")


def _weight_of(
    part: str, last: str, dense: dict[str, str], norms: dict[str, str], prefix: str
) -> GraphWeight | None:
    if part in dense and last in ("weight", "kernel", "bias"):
        kind = "bias" if last == "bias" else "kernel"
        return GraphWeight(f"{prefix}{dense[part]}/{kind}", transposed=last == "weight")
    if part in norms and last in ("weight", "gamma", "bias", "beta"):
        kind = "gamma" if last in ("weight", "gamma") else "beta"
        return GraphWeight(f"{prefix}{norms[part]}/{kind}")
    return None

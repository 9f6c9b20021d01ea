"""Converts Hugging Face's ``config.json`` to the shape of our encoder."""

from __future__ import annotations

from typing import Any

from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.known_settings import BERT, DISTILBERT
from model_bundle.errors import SourceError

# gelu_python is the exact form; gelu_fast is the tanh form with its constant written out.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_ROBERTA = ("roberta", "xlm-roberta", "camembert")
_KINDS = ("bert", "distilbert", *_ROBERTA)


def encoder_config(config: dict[str, Any], *, has_pooler: bool, where: str) -> BertConfig:
    """Reads the shape of a BERT, DistilBERT or RoBERTa encoder.

    Args:
        config: the content of ``config.json``.
        has_pooler: whether the weights include BERT's pooler, which is not in the configuration.
        where: the file, for errors.

    Raises:
        SourceError: the architecture or a setting is not supported or not known, or a size is missing.
    """
    kind = model_kind(config, where)
    (DISTILBERT if kind == "distilbert" else BERT).check(config, where)
    built = _distilbert(config, where) if kind == "distilbert" else _bert(config, kind, has_pooler, where)
    if built.dim % built.num_heads:
        raise SourceError(f"{where}: {built.num_heads} heads do not divide a hidden size of {built.dim}.")
    return built


def model_kind(config: dict[str, Any], where: str) -> str:
    """Returns the architecture; configurations older than ``model_type`` have it in their class name.

    Raises:
        SourceError: it is not supported, or not stated.
    """
    architectures = config.get("architectures") or [""]
    prefixes = {"BertFor": "bert", "BertModel": "bert", "DistilBert": "distilbert", "Roberta": "roberta"}
    guesses = (kind for prefix, kind in prefixes.items() if str(architectures[0]).startswith(prefix))
    kind = config.get("model_type") or next(guesses, None)
    if kind is None:
        raise SourceError(
            f'{where} does not state its architecture; add "model_type": one of {", ".join(_KINDS)}.'
        )
    if kind not in _KINDS:
        raise SourceError(
            f"{where} is a {kind!r} model; supported encoders are {', '.join(_KINDS)}. "
            "Export other architectures as a TensorFlow SavedModel and build a bundle from that."
        )
    return str(kind)


def max_text_positions(config: BertConfig) -> int:
    """Returns how many tokens the position table has room for; RoBERTa's begin after the padding's."""
    return config.max_positions - config.position_offset


def _bert(config: dict[str, Any], kind: str, has_pooler: bool, where: str) -> BertConfig:
    roberta = kind in _ROBERTA
    pad_id = _pad_id(config, 1 if roberta else 0)
    return BertConfig(
        num_layers=_size(config, "num_hidden_layers", where),
        num_heads=_size(config, "num_attention_heads", where),
        dim=_size(config, "hidden_size", where),
        inner_dim=_size(config, "intermediate_size", where),
        vocab_size=_size(config, "vocab_size", where),
        max_positions=_size(config, "max_position_embeddings", where),
        num_types=_size({"type_vocab_size": 2, **config}, "type_vocab_size", where, least=0),
        norm_epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=_activation(config.get("hidden_act", "gelu"), where),
        position_offset=pad_id + 1 if roberta else 0,
        pad_id=pad_id,
        has_pooler=has_pooler,
    )


def _distilbert(config: dict[str, Any], where: str) -> BertConfig:
    return BertConfig(
        num_layers=_size(config, "n_layers", where),
        num_heads=_size(config, "n_heads", where),
        dim=_size(config, "dim", where),
        inner_dim=_size(config, "hidden_dim", where),
        vocab_size=_size(config, "vocab_size", where),
        max_positions=_size(config, "max_position_embeddings", where),
        num_types=0,
        # Source: DistilBERT's layer norms have this epsilon fixed in its code.
        norm_epsilon=1e-12,
        activation=_activation(config.get("activation", "gelu"), where),
        pad_id=_pad_id(config, 0),
    )


def _size(config: dict[str, Any], key: str, where: str, least: int = 1) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SourceError(f"{where}: {key!r} is {value!r}; expected a whole number of at least {least}.")
    return value


def _pad_id(config: dict[str, Any], default: int) -> int:
    value = config.get("pad_token_id")
    return default if value is None else int(value)


def _activation(name: str, where: str) -> str:
    if name not in _ACTIVATIONS:
        raise SourceError(f"{where}: activation {name!r}; supported are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]

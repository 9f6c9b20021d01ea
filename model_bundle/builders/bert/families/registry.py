"""All families, and which of them a ``config.json`` is of. A new architecture is one line here."""

from __future__ import annotations

from typing import Any

from model_bundle.builders.bert.families.albert import ALBERT
from model_bundle.builders.bert.families.bert import BERT, DISTILBERT, ROBERTA
from model_bundle.builders.bert.families.deberta import DEBERTA, DEBERTA_V2
from model_bundle.builders.bert.families.electra import ELECTRA
from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.families.modernbert import MODERNBERT
from model_bundle.builders.bert.families.mpnet import MPNET
from model_bundle.builders.bert.families.nearest import nearest
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.errors import SourceError

FAMILIES = (BERT, DISTILBERT, ROBERTA, MPNET, ELECTRA, ALBERT, MODERNBERT, DEBERTA_V2, DEBERTA)
# Two special ones and a word.
MIN_TOKENS = 3
_BY_TYPE = {kind: family for family in FAMILIES for kind in family.model_types}
_BY_CLASS = {begin: kind for family in FAMILIES for begin, kind in family.classes.items()}


def find_family(config: dict[str, Any], where: str) -> Family:
    """Returns the family of a ``config.json``.

    Raises:
        SourceError: it is not supported, or not stated.
    """
    return _BY_TYPE[model_type(config, where)]


def model_type(config: dict[str, Any], where: str) -> str:
    """Returns the model type; configurations older than that have it in their class name.

    Raises:
        SourceError: it is not supported, or not stated.
    """
    named = config.get("architectures") or [""]
    architecture = str(named[0]) if isinstance(named, list) else ""
    guesses = (kind for begin, kind in _BY_CLASS.items() if architecture.startswith(begin))
    kind = config.get("model_type") or next(guesses, None)
    if kind is None:
        raise SourceError(
            f'{where} does not state its architecture; add "model_type": one of {", ".join(_BY_TYPE)}.'
        )
    if (kind := str(kind)) not in _BY_TYPE:
        raise SourceError(
            f"{where} is a {kind!r} model; supported encoders are {', '.join(_BY_TYPE)}. "
            f"{nearest(config, FAMILIES)} Export other architectures as a TensorFlow SavedModel and build a "
            "bundle from that."
        )
    return kind


def encoder_config(config: dict[str, Any], *, has_pooler: bool, where: str) -> BertConfig:
    """Reads the shape of an encoder.

    Args:
        config: the content of ``config.json``.
        has_pooler: whether the weights include a pooler, which is not in the configuration.
        where: the file, for errors.

    Raises:
        SourceError: the architecture or a setting is not supported or not known, or a size is missing.
    """
    kind = model_type(config, where)
    family = _BY_TYPE[kind]
    family.known.check(config, where)
    built = family.read(Settings(config, kind, has_pooler, where))
    if built.dim % built.num_heads:
        raise SourceError(f"{where}: {built.num_heads} heads do not divide a hidden size of {built.dim}.")
    if built.pad_id >= built.vocab_size:
        raise SourceError(
            f"{where}: 'pad_token_id' is {built.pad_id}; expected one of {built.vocab_size} words, from 0."
        )
    if built.max_text_positions < MIN_TOKENS:
        raise SourceError(
            f"{where}: 'max_position_embeddings' is {built.max_positions}, of which texts begin at "
            f"{built.position_offset}; expected room for at least {MIN_TOKENS} tokens, special ones included."
        )
    return built

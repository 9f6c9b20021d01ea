"""DeBERTa: the first version, and the second and third, which share a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.weight_names import NamedPart, WeightNames
from model_bundle.builders.graphs.encoders.deberta_config import DebertaConfig
from model_bundle.builders.known_settings import DEBERTA as DEBERTA_SETTINGS
from model_bundle.builders.known_settings import DEBERTA_V2 as DEBERTA_V2_SETTINGS
from model_bundle.errors import SourceError

_TERMS = ("c2p", "p2c")
_NORMS = {"none": False, "layer_norm": True}
# A table of all distances is part of the graph, once per layer.
_MOST_POSITIONS = 2**17


def _graph() -> Any:
    from model_bundle.builders.graphs.encoders.deberta import DebertaEncoder

    return DebertaEncoder


def _read(settings: Settings) -> DebertaConfig:
    dim, num_heads = settings.size("hidden_size", 1536), settings.size("num_attention_heads", 24)
    for key, expected in {
        "embedding_size": dim,
        "pooler_hidden_size": dim,
        "attention_head_size": dim // num_heads,
        "conv_groups": 1,
    }.items():
        value = settings.content.get(key)
        if value not in (None, expected) or isinstance(value, bool):
            raise SourceError(f"{settings.where} sets {key!r} to {value!r}; only {expected} can be built.")
    terms, is_relative = _terms(settings), settings.flag("relative_attention", False)
    max_positions = settings.size("max_position_embeddings", 512, most=_MOST_POSITIONS)
    max_relative = _positive(settings, "max_relative_positions", max_positions)
    num_buckets = _positive(settings, "position_buckets", 0)
    near = num_buckets // 2  # distances of a bucket each; those beyond share by their logarithm
    if is_relative and num_buckets and near < max_positions - 1 and not 1 <= near < max_relative - 1:
        raise SourceError(
            f"{settings.where}: 'position_buckets' is {num_buckets} with distances up to {max_relative - 1}; "
            f"expected 2 to {2 * max_relative - 3}: others give far distances no bucket."
        )
    conv_width = _positive(settings, "conv_kernel_size", 0)
    if conv_width and conv_width % 2 == 0:
        raise SourceError(f"{settings.where}: 'conv_kernel_size' is {conv_width}; expected an odd number.")
    return DebertaConfig(
        num_layers=settings.layers("num_hidden_layers", 24),
        num_heads=num_heads,
        dim=dim,
        inner_dim=settings.size("intermediate_size", 6144),
        vocab_size=settings.size("vocab_size", 128100),
        max_positions=max_positions,
        num_types=settings.size("type_vocab_size", 0, least=0),
        norm_epsilon=settings.number("layer_norm_eps", 1e-7),
        activation=settings.activation("hidden_act", "gelu"),
        pad_id=settings.pad_id(0),
        has_pooler=settings.has_pooler,
        pooler_activation=settings.activation("pooler_hidden_act", "gelu"),
        has_positions=settings.flag("position_biased_input", True),
        num_relative=(num_buckets or max_relative) if is_relative else 0,
        num_buckets=num_buckets,
        max_relative=max_relative,
        content_to_position=is_relative and "c2p" in terms,
        position_to_content=is_relative and "p2c" in terms,
        own_relative=not settings.flag("share_att_key", False),
        # Kinds of scores that are named count even without relative attention.
        score_terms=1 + len(terms),
        relative_norm=_relative_norm(settings),
        conv_width=conv_width,
        conv_activation=settings.activation("conv_act", "tanh"),
    )


def _read_first(settings: Settings) -> DebertaConfig:
    """Reads the first version, whose defaults are others and whose relative positions are all apart."""
    defaults = {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "intermediate_size": 3072,
        "vocab_size": 50265,
    }
    stated = {key: value for key, value in settings.content.items() if value is not None}
    read = _read(replace(settings, content=defaults | stated))
    return replace(read, joined=True)


def _terms(settings: Settings) -> set[str]:
    """Reads which scores of positions are added, from a list or a string with bars."""
    stated = settings.content.get("pos_att_type") or []
    named = [part.strip() for part in stated.lower().split("|")] if isinstance(stated, str) else stated
    if not isinstance(named, list) or sorted(map(str, named)) not in (["c2p"], ["p2c"], ["c2p", "p2c"], []):
        raise SourceError(
            f"{settings.where}: 'pos_att_type' is {stated!r}; expected each of {', '.join(_TERMS)} once."
        )
    return set(named)


def _relative_norm(settings: Settings) -> bool:
    stated = str(settings.content.get("norm_rel_ebd") or "none")
    named = [part.strip() for part in stated.lower().split("|")]
    if not set(named) <= set(_NORMS):
        raise SourceError(f"{settings.where}: 'norm_rel_ebd' is {stated!r}; expected {' or '.join(_NORMS)}.")
    return any(_NORMS[part] for part in named)


def _positive(settings: Settings, key: str, default: int) -> int:
    """Reads a number of which 0 and -1 mean that it is not set."""
    value = settings.content.get(key)
    if value is None or value in (0, -1):
        return default
    return settings.size(key)


_WHOLE = NamedPart(
    r"(?:deberta/)?",
    tables={
        "embeddings/word_embeddings": "embeddings/word",
        "embeddings/position_embeddings": "embeddings/position",
        "embeddings/token_type_embeddings": "embeddings/type",
        "encoder/rel_embeddings": "relative/table",
    },
    dense={"pooler/dense": "pooler", "encoder/conv/conv": "conv"},
    norms={
        "embeddings/LayerNorm": "embeddings/norm",
        "encoder/LayerNorm": "relative/norm",
        "encoder/conv/LayerNorm": "conv/norm",
    },
)
_LAYERS = NamedPart(
    r"(?:deberta/)?encoder/layer(?:/|_\._)(\d+)/",
    "layer_{}/",
    tables={"attention/self/q_bias": "attention/query_bias", "attention/self/v_bias": "attention/value_bias"},
    dense={
        "attention/self/query_proj": "attention/query",
        "attention/self/key_proj": "attention/key",
        "attention/self/value_proj": "attention/value",
        "attention/self/in_proj": "attention/joined",
        "attention/self/pos_key_proj": "attention/position_key",
        "attention/self/pos_proj": "attention/position_key",
        "attention/self/pos_query_proj": "attention/position_query",
        "attention/self/pos_q_proj": "attention/position_query",
        "attention/output/dense": "attention/output",
        "intermediate/dense": "ffn/inner",
        "output/dense": "ffn/outer",
    },
    norms={"attention/output/LayerNorm": "attention/norm", "output/LayerNorm": "ffn/norm"},
)
_NAMES = WeightNames((_WHOLE, _LAYERS), left_out=((r"(lm|mask)_predictions/.+", "language model head"),))

DEBERTA_V2 = Family(
    name="deberta-v2",
    title="DeBERTa v2 and v3",
    model_types=("deberta-v2",),
    classes={"DebertaV2": "deberta-v2"},
    known=DEBERTA_V2_SETTINGS,
    read=_read,
    names=_NAMES,
    graph=_graph,
    head_activation="",
)
DEBERTA = Family(
    name="deberta",
    title="DeBERTa",
    model_types=("deberta",),
    classes={"DebertaFor": "deberta", "DebertaModel": "deberta"},
    known=DEBERTA_SETTINGS,
    read=_read_first,
    names=_NAMES,
    graph=_graph,
    head_activation="",
)

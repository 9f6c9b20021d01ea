"""ModernBERT."""

from __future__ import annotations

from typing import Any

from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.weight_names import PREDICTION_HEAD, NamedPart, WeightNames
from model_bundle.builders.graphs.encoders.modernbert_config import ModernBertConfig
from model_bundle.builders.known_settings import MODERNBERT as MODERNBERT_SETTINGS
from model_bundle.errors import SourceError

_KINDS = {"full_attention": True, "sliding_attention": False}
# transformers 5 writes the bases of rotary positions by kind of layer, transformers 4 by a key for each.
_THETAS = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
_THETA_DEFAULTS = {"full_attention": 160_000.0, "sliding_attention": 10_000.0}
_POOLINGS = {"cls": False, "mean": True}


def _graph() -> Any:
    from model_bundle.builders.graphs.encoders.modernbert import ModernBertEncoder

    return ModernBertEncoder


def _read(settings: Settings) -> ModernBertConfig:
    dim, num_heads = settings.size("hidden_size", 768), settings.size("num_attention_heads", 12)
    if dim % (2 * num_heads):
        raise SourceError(
            f"{settings.where}: {num_heads} heads of a hidden size of {dim}; rotary positions need an even "
            "number per head."
        )
    global_layers = _global_layers(settings)
    return ModernBertConfig(
        num_layers=len(global_layers),
        num_heads=num_heads,
        dim=dim,
        inner_dim=settings.size("intermediate_size", 1152),
        vocab_size=settings.size("vocab_size", 50368),
        max_positions=settings.size("max_position_embeddings", 8192),
        num_types=0,
        norm_epsilon=settings.number("norm_eps", 1e-5),
        activation=settings.activation("hidden_activation", "gelu"),
        # It fills batches and is masked; the default of transformers is beyond a small vocabulary.
        pad_id=settings.pad_id(0),
        has_pooler=settings.has_pooler,
        pooler_activation=settings.activation("classifier_activation", "gelu"),
        global_layers=global_layers,
        reach=settings.size("local_attention", 128) // 2,
        global_theta=_theta(settings, "full_attention"),
        local_theta=_theta(settings, "sliding_attention"),
        norm_bias=settings.flag("norm_bias", False),
        attention_bias=settings.flag("attention_bias", False),
        mlp_bias=settings.flag("mlp_bias", False),
        head_bias=settings.flag("classifier_bias", False),
        pool_mean=settings.one_of("classifier_pooling", "cls", _POOLINGS),
    )


def _global_layers(settings: Settings) -> tuple[bool, ...]:
    """Reads which layers are global: named one by one, else every so many, the first included."""
    num_layers = settings.layers("num_hidden_layers", 22)
    every = settings.size("global_attn_every_n_layers", 3)
    by_number = tuple(index % every == 0 for index in range(num_layers))
    named = settings.content.get("layer_types")
    if named is None:
        return by_number
    if not isinstance(named, list) or len(named) != num_layers or not {*map(str, named)} <= set(_KINDS):
        raise SourceError(
            f"{settings.where}: 'layer_types' is {named!r}; expected {num_layers} names out of "
            f"{', '.join(_KINDS)}."
        )
    found = tuple(_KINDS[name] for name in named)
    if "global_attn_every_n_layers" in settings.content and found != by_number:
        raise SourceError(
            f"{settings.where}: 'layer_types' {named!r} and 'global_attn_every_n_layers' {every} name other "
            "layers as global. Remove the one that is wrong."
        )
    return found


def _theta(settings: Settings, kind: str) -> float:
    """Reads the base of the rotary positions of a kind of layer."""
    flat = settings.content.get(_THETAS[kind])
    if flat is None and kind == "sliding_attention" and _THETAS[kind] in settings.content:
        flat = settings.content.get("global_rope_theta")  # null means the same as in global layers
    by_kind = settings.content.get("rope_parameters") or {}
    stated = (by_kind.get(kind) or {}) if isinstance(by_kind, dict) else None
    if not isinstance(stated, dict) or not set(by_kind) <= set(_KINDS):
        raise SourceError(
            f"{settings.where}: 'rope_parameters' is {by_kind!r}; expected {' and '.join(_KINDS)}."
        )
    unknown = {key: value for key, value in stated.items() if key not in ("rope_theta", "rope_type")}
    if unknown or stated.get("rope_type", "default") != "default":
        raise SourceError(
            f"{settings.where}: 'rope_parameters' of {kind} are {stated!r}; expected 'rope_type' 'default' "
            "and 'rope_theta': scaled rotary positions cannot be built."
        )
    theta = stated.get("rope_theta", _THETA_DEFAULTS[kind] if flat is None else flat)
    if isinstance(theta, bool) or not isinstance(theta, (int, float)) or not theta > 0:
        raise SourceError(
            f"{settings.where}: {_THETAS[kind]!r}, or 'rope_theta' of {kind}, is {theta!r}; expected a "
            "number over 0."
        )
    return float(theta)


MODERNBERT = Family(
    name="modernbert",
    title="ModernBERT",
    model_types=("modernbert",),
    classes={"ModernBert": "modernbert"},
    known=MODERNBERT_SETTINGS,
    read=_read,
    names=WeightNames(
        (
            NamedPart(
                r"(?:model/)?",
                tables={"embeddings/tok_embeddings": "embeddings/word"},
                norms={"embeddings/norm": "embeddings/norm", "final_norm": "final_norm"},
            ),
            NamedPart(
                r"(?:model/)?layers/(\d+)/",
                "layer_{}/",
                dense={
                    "attn/Wqkv": "attention/qkv",
                    "attn/Wo": "attention/output",
                    "mlp/Wi": "ffn/inner",
                    "mlp/Wo": "ffn/outer",
                },
                norms={"attn_norm": "attention/norm", "mlp_norm": "ffn/norm"},
            ),
            NamedPart(r"head/", dense={"dense": "pooler"}, norms={"norm": "pooler/norm"}),
        ),
        left_out=((r"head/.+", PREDICTION_HEAD), (r"decoder/.+", "language model head")),
    ),
    graph=_graph,
    head_activation="",
)

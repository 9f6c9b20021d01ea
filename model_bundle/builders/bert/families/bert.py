"""BERT and RoBERTa with its relatives, and DistilBERT, whose layers are BERT's under other names."""

from __future__ import annotations

from typing import Any

from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.weight_names import NamedPart, WeightNames
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.known_settings import BERT as BERT_SETTINGS
from model_bundle.builders.known_settings import DISTILBERT as DISTILBERT_SETTINGS

_ROBERTA = ("roberta", "xlm-roberta", "camembert")

BERT_EMBEDDINGS = NamedPart(
    tables={
        "embeddings/word_embeddings": "embeddings/word",
        "embeddings/position_embeddings": "embeddings/position",
        "embeddings/token_type_embeddings": "embeddings/type",
    },
    norms={"embeddings/LayerNorm": "embeddings/norm"},
    dense={"pooler/dense": "pooler"},
)
BERT_LAYERS = NamedPart(
    r"encoder/layer(?:/|_\._|_)(\d+)/",
    "layer_{}/",
    dense={
        "attention/self/query": "attention/query",
        "attention/self/key": "attention/key",
        "attention/self/value": "attention/value",
        "attention/output/dense": "attention/output",
        "intermediate/dense": "ffn/inner",
        "output/dense": "ffn/outer",
    },
    norms={"attention/output/LayerNorm": "attention/norm", "output/LayerNorm": "ffn/norm"},
)
_DISTILBERT_LAYERS = NamedPart(
    r"transformer/layer(?:/|_\._|_)(\d+)/",
    "layer_{}/",
    dense={
        "attention/q_lin": "attention/query",
        "attention/k_lin": "attention/key",
        "attention/v_lin": "attention/value",
        "attention/out_lin": "attention/output",
        "ffn/lin1": "ffn/inner",
        "ffn/lin2": "ffn/outer",
    },
    norms={"sa_layer_norm": "attention/norm", "output_layer_norm": "ffn/norm"},
)


def bert_graph() -> Any:
    """Imports the graph."""
    from model_bundle.builders.graphs.bert import BertEncoder

    return BertEncoder


def read_bert(settings: Settings) -> BertConfig:
    """Reads a configuration with BERT's settings, which most families have."""
    roberta = settings.kind in _ROBERTA
    pad_id = settings.pad_id(1 if roberta else 0)
    return BertConfig(
        num_layers=settings.layers("num_hidden_layers"),
        num_heads=settings.size("num_attention_heads"),
        dim=settings.size("hidden_size"),
        inner_dim=settings.size("intermediate_size"),
        vocab_size=settings.size("vocab_size"),
        max_positions=settings.size("max_position_embeddings"),
        num_types=settings.size("type_vocab_size", 2, least=0),
        norm_epsilon=settings.number("layer_norm_eps", 1e-12),
        activation=settings.activation("hidden_act", "gelu"),
        position_offset=pad_id + 1 if roberta else 0,
        pad_id=pad_id,
        has_pooler=settings.has_pooler,
    )


def _distilbert(settings: Settings) -> BertConfig:
    return BertConfig(
        num_layers=settings.layers("n_layers"),
        num_heads=settings.size("n_heads"),
        dim=settings.size("dim"),
        inner_dim=settings.size("hidden_dim"),
        vocab_size=settings.size("vocab_size"),
        max_positions=settings.size("max_position_embeddings"),
        num_types=0,
        # Source: DistilBERT's layer norms have this epsilon fixed in its code.
        norm_epsilon=1e-12,
        activation=settings.activation("activation", "gelu"),
        pad_id=settings.pad_id(0),
    )


BERT = Family(
    name="bert",
    title="BERT",
    model_types=("bert",),
    classes={"BertFor": "bert", "BertModel": "bert"},
    known=BERT_SETTINGS,
    read=read_bert,
    names=WeightNames((BERT_EMBEDDINGS, BERT_LAYERS)),
    graph=bert_graph,
    has_int8=True,
)
ROBERTA = Family(
    name="bert",
    title="RoBERTa, XLM-RoBERTa and CamemBERT",
    model_types=_ROBERTA,
    classes={"Roberta": "roberta", "XLMRoberta": "xlm-roberta", "Camembert": "camembert"},
    known=BERT_SETTINGS,
    read=read_bert,
    names=BERT.names,
    graph=bert_graph,
    has_int8=True,
)
DISTILBERT = Family(
    name="bert",
    title="DistilBERT",
    model_types=("distilbert",),
    classes={"DistilBert": "distilbert"},
    known=DISTILBERT_SETTINGS,
    read=_distilbert,
    names=WeightNames((BERT_EMBEDDINGS, _DISTILBERT_LAYERS)),
    graph=bert_graph,
    head_activation="relu",
    has_int8=True,
)

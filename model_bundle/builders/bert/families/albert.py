"""ALBERT: BERT whose layers share their weights, with narrow embeddings (arXiv:1909.11942)."""

from __future__ import annotations

from dataclasses import replace

from model_bundle.builders.bert.families.bert import BERT_EMBEDDINGS, bert_graph, read_bert
from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.weight_names import NamedPart, WeightNames
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.known_settings import ABSOLUTE, DROPOUT, SIZES, encoder_settings
from model_bundle.errors import SourceError

# Layers in a group; published models have one.
_MOST_INNER = 16
_GOOGLE_LAYER = {
    "attention_1/self/query": "attention/query",
    "attention_1/self/key": "attention/key",
    "attention_1/self/value": "attention/value",
    "attention_1/output/dense": "attention/output",
    "ffn_1/intermediate/dense": "ffn/inner",
    "ffn_1/intermediate/output/dense": "ffn/outer",
}
_LAYER = {
    "attention/query": "attention/query",
    "attention/key": "attention/key",
    "attention/value": "attention/value",
    "attention/dense": "attention/output",
    "ffn": "ffn/inner",
    "ffn_output": "ffn/outer",
}


def _read(settings: Settings) -> BertConfig:
    num_layers = settings.layers("num_hidden_layers")
    num_groups = settings.size("num_hidden_groups", 1)
    if num_groups > num_layers:
        raise SourceError(
            f"{settings.where}: 'num_hidden_groups' is {num_groups}; expected at most {num_layers}, the "
            "number of layers."
        )
    inner = range(settings.size("inner_group_num", 1, most=_MOST_INNER))
    # Source: AlbertTransformer of transformers; the same division there.
    groups = [int(layer / (num_layers / num_groups)) for layer in range(num_layers)]
    return replace(
        read_bert(settings),
        activation=settings.activation("hidden_act", "gelu_new"),
        # The dense layer is there even if it changes no size.
        embedding_dim=settings.size("embedding_size"),
        shared_layers=tuple(tuple(f"group_{group}/layer_{index}" for index in inner) for group in groups),
    )


ALBERT = Family(
    name="albert",
    title="ALBERT",
    model_types=("albert",),
    classes={"Albert": "albert"},
    known=encoder_settings(
        f"""
            {SIZES} pad_token_id type_vocab_size embedding_size num_hidden_groups inner_group_num
        """,
        f"{DROPOUT} classifier_dropout_prob",
        # Written by Google, read by nobody: as if another network had been planned.
        {
            **ABSOLUTE,
            "down_scale_factor": (1,),
            "gap_size": (0,),
            "net_structure_type": (0,),
            "num_memory_blocks": (0,),
        },
    ),
    read=_read,
    names=WeightNames(
        (
            BERT_EMBEDDINGS,
            NamedPart(
                dense={"pooler": "pooler", "encoder/embedding_hidden_mapping_in": "embeddings/projection"}
            ),
            NamedPart(
                r"encoder/albert_layer_groups(?:/|_\._)(\d+)/albert_layers(?:/|_\._)(\d+)/",
                "group_{}/layer_{}/",
                dense=_LAYER,
                norms={"attention/LayerNorm": "attention/norm", "full_layer_layer_norm": "ffn/norm"},
            ),
            NamedPart(
                r"encoder/transformer/group_(\d+)/inner_group_(\d+)/",
                "group_{}/layer_{}/",
                dense=_GOOGLE_LAYER,
                norms={"LayerNorm": "attention/norm", "LayerNorm_1": "ffn/norm"},
            ),
        ),
        ((r"(predictions|sop_classifier)/.+", "pre-training heads"),),
    ),
    graph=bert_graph,
)

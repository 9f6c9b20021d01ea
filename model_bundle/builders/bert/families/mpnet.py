"""MPNet: BERT with a bias of the scores by relative position, one for all layers (arXiv:2004.09297)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from model_bundle.builders.bert.families.bert import BERT_EMBEDDINGS, read_bert
from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.weight_names import NamedPart, WeightNames
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.known_settings import DROPOUT, SIZES, encoder_settings

# Source: MPNetEmbeddings and MPNetEncoder of transformers, where both are fixed whatever the configuration
# says; its TensorFlow code differs. Other values are therefore refused.
_PAD_ID = 1
_BUCKETS = 32


def _graph() -> Any:
    from model_bundle.builders.graphs.encoders.mpnet import MPNetEncoder

    return MPNetEncoder


def _read(settings: Settings) -> BertConfig:
    return replace(
        read_bert(settings),
        num_types=0,
        position_offset=_PAD_ID + 1,
        pad_id=_PAD_ID,
        relative_buckets=_BUCKETS,
    )


MPNET = Family(
    name="mpnet",
    title="MPNet",
    model_types=("mpnet",),
    classes={"MPNet": "mpnet"},
    known=encoder_settings(
        SIZES, DROPOUT, {"pad_token_id": (_PAD_ID,), "relative_attention_num_buckets": (_BUCKETS,)}
    ),
    read=_read,
    names=WeightNames(
        (
            BERT_EMBEDDINGS,
            NamedPart(tables={"encoder/relative_attention_bias": "embeddings/relative_bias"}),
            NamedPart(
                r"encoder/layer(?:/|_\._)(\d+)/",
                "layer_{}/",
                dense={
                    "attention/attn/q": "attention/query",
                    "attention/attn/k": "attention/key",
                    "attention/attn/v": "attention/value",
                    "attention/attn/o": "attention/output",
                    "intermediate/dense": "ffn/inner",
                    "output/dense": "ffn/outer",
                },
                norms={"attention/LayerNorm": "attention/norm", "output/LayerNorm": "ffn/norm"},
            ),
        )
    ),
    graph=_graph,
)

"""ELECTRA: BERT with embeddings of their own width, and another head (arXiv:2003.10555)."""

from __future__ import annotations

from dataclasses import replace

from model_bundle.builders.bert.families.bert import BERT_EMBEDDINGS, BERT_LAYERS, bert_graph, read_bert
from model_bundle.builders.bert.families.family import Family, Settings
from model_bundle.builders.bert.weight_names import NamedPart, WeightNames
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.known_settings import ABSOLUTE, DROPOUT, SIZES, encoder_settings


def _read(settings: Settings) -> BertConfig:
    config = read_bert(settings)
    embedding_dim = settings.size("embedding_size")
    return replace(
        config, has_pooler=False, embedding_dim=0 if embedding_dim == config.dim else embedding_dim
    )


ELECTRA = Family(
    name="electra",
    title="ELECTRA",
    model_types=("electra",),
    classes={"Electra": "electra"},
    known=encoder_settings(
        f"{SIZES} pad_token_id type_vocab_size embedding_size",
        # The summary is of a head for multiple choice, which is not built.
        f"{DROPOUT} summary_type summary_use_proj summary_activation summary_last_dropout",
        ABSOLUTE,
    ),
    read=_read,
    names=WeightNames(
        (
            BERT_EMBEDDINGS,
            BERT_LAYERS,
            NamedPart(dense={"embeddings_project": "embeddings/projection"}),
        ),
        (
            # Google's checkpoints have both halves of pre-training; the encoder is the discriminator's.
            (r"(generator(_predictions|_lm_head)?|discriminator_predictions)/.+", "pre-training heads"),
        ),
    ),
    graph=bert_graph,
    head_activation="gelu",
)

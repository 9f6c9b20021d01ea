"""Stored names to the names of our graph."""

from __future__ import annotations

import pytest

from model_bundle.builders.bert.families.bert import BERT, DISTILBERT
from model_bundle.builders.bert.weight_names import GraphWeight, enclosing_scope
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from tests.conftest import DATA_DIR
from tests.support.models.bert_formats import stored_weights, tensorflow_weights


def graph_weight(stored: str) -> GraphWeight | None:
    return BERT.names.graph_weight(stored) or DISTILBERT.names.graph_weight(stored)


def ignored_kind(stored: str) -> str | None:
    found = {family.names.ignored_kind(stored) for family in (BERT, DISTILBERT)}
    assert len(found) == 1
    return found.pop()


def graph_names(stored: dict[str, object]) -> list[str]:
    return sorted(found.name for name in stored if (found := graph_weight(name)) is not None)


@pytest.mark.parametrize(
    ("folder", "num_types", "has_pooler"),
    [("tiny_bert", 2, True), ("tiny_distilbert", 0, False), ("tiny_roberta", 1, False)],
)
def test_every_weight_of_the_graph_has_exactly_one_name_in_each_family(
    folder: str, num_types: int, has_pooler: bool
) -> None:
    sizes = {"num_heads": 4, "dim": 32, "inner_dim": 48, "vocab_size": 120, "max_positions": 64}
    config = BertConfig(num_layers=2, norm_epsilon=1e-12, num_types=num_types, has_pooler=has_pooler, **sizes)
    assert graph_names(dict(stored_weights(DATA_DIR / folder))) == sorted(weight_shapes(config))


def test_names_of_tensorflow_say_the_same_as_those_of_pytorch() -> None:
    assert graph_names(dict(tensorflow_weights())) == graph_names(dict(stored_weights()))


@pytest.mark.parametrize(
    ("stored", "name", "transposed"),
    [
        ("bert.encoder.layer.11.output.dense.weight", "layer_11/ffn/outer/kernel", True),
        ("encoder.layer.0.intermediate.dense.bias", "layer_0/ffn/inner/bias", False),
        ("roberta.embeddings.LayerNorm.gamma", "embeddings/norm/gamma", False),
        ("bert/encoder/layer_3/attention/self/value/kernel", "layer_3/attention/value/kernel", False),
        ("bert/embeddings/token_type_embeddings", "embeddings/type", False),
        ("tf_bert_model_1/bert/embeddings/word_embeddings/weight:0", "embeddings/word", False),
        (
            "tf_distil_bert_model/distilbert/transformer/layer_._5/ffn/lin2/kernel:0",
            "layer_5/ffn/outer/kernel",
            False,
        ),
        ("distilbert.transformer.layer.5.sa_layer_norm.bias", "layer_5/attention/norm/beta", False),
        ("roberta/tf_roberta_model/roberta/pooler/dense/kernel:0", "pooler/kernel", False),
        ("roberta/tfxlm_roberta_model/roberta/pooler/dense/kernel:0", "pooler/kernel", False),
        ("roberta/tf_camembert_model_1/roberta/pooler/dense/kernel:0", "pooler/kernel", False),
    ],
)
def test_a_name_is_understood(stored: str, name: str, transposed: bool) -> None:
    found = graph_weight(stored)
    assert found is not None
    assert (found.name, found.transposed) == (name, transposed)
    assert ignored_kind(stored) is None


@pytest.mark.parametrize(
    ("stored", "scope"),
    [
        (["bert/embeddings/word_embeddings"], ""),
        (["embeddings.word_embeddings.weight"], ""),
        (["roberta/tfxlm_roberta_model/roberta/embeddings/word_embeddings/weight:0"], ""),
        (
            ["module/bert/embeddings/word_embeddings", "module/bert/embeddings/word_embeddings/adam_m"],
            "module/",
        ),
        (["module.bert.embeddings.word_embeddings.weight"], "module."),
        (["a/b/bert/embeddings/word_embeddings", "output_bias"], "a/b/"),
        # Two encoders, neither of which is the model.
        (["query/bert/embeddings/word_embeddings", "passage/bert/embeddings/word_embeddings"], ""),
        (["bert/embeddings/word_embeddings", "ema/bert/embeddings/word_embeddings"], ""),
        (["bert/pooler/dense/bias"], ""),
    ],
)
def test_the_scope_of_an_encoder_is_found(stored: list[str], scope: str) -> None:
    assert enclosing_scope(stored) == scope


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        ("cls/predictions/output_bias", "pre-training heads"),
        ("mlm___cls/tf_bert_for_pre_training/bert/embeddings/word_embeddings/weight:0", "pre-training heads"),
        ("lm_head.decoder.weight", "language model head"),
        ("vocab_transform.weight", "language model head"),
        ("pre_classifier.weight", "classification head"),
        ("classifier/tf_bert_for_sequence_classification/classifier/kernel:0", "classification head"),
        ("output_weights", "classification head"),
        ("qa_outputs.bias", "question answering head"),
        ("embeddings.position_ids", "index buffers"),
        ("bert/encoder/layer_0/output/dense/kernel/adam_v", "optimizer state"),
        ("global_step", "optimizer state"),
    ],
)
def test_what_an_encoder_does_not_need_is_known_by_name(stored: str, what: str) -> None:
    assert ignored_kind(stored) == what
    assert graph_weight(stored) is None


@pytest.mark.parametrize(
    "stored",
    [
        "teacher.encoder.layer.0.output.dense.weight",
        "bert.encoder.layer.0.adapter.down.weight",
        "bert.encoder.layer.0.attention.self.query.weight_scale",
        "embeddings.word_embeddings.bias",
        "encoder.layer.one.output.dense.bias",
    ],
)
def test_anything_else_is_neither(stored: str) -> None:
    assert graph_weight(stored) is None
    assert ignored_kind(stored) is None

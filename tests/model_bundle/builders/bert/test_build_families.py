"""MPNet, ELECTRA, ALBERT, XLM-RoBERTa and CamemBERT from every format, against what PyTorch gave."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.bert.build import BertSource
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.errors import SourceError, WeightsMismatchError
from model_bundle.text.subwords import SubwordInput
from tests.support.models import families
from tests.support.models.bert_formats import copy_source, edit_json

TOLERANCE = 1e-5


def read(folder: Path, **options: Any) -> BertSource:
    return read_bert_source(str(folder), BertOptions(**options)).source


def states_of(encoder: Any, ids: np.ndarray, mask: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """Runs the graph: float32[layers + 1, texts, tokens, dim]."""
    import tensorflow as tf

    fed = (tf.constant(ids, tf.int32), tf.constant(mask, tf.int32))
    return np.stack([state.numpy() for state in encoder.encode(*fed, tf.as_dtype(dtype))])


def assert_golden(source: BertSource, model: str) -> None:
    golden = families.expected(model)
    encoder = families.make_encoder(source)
    found = states_of(encoder, golden["ids"], golden["mask"])
    real = golden["mask"][np.newaxis, :, :, np.newaxis]
    np.testing.assert_allclose(found * real, golden["states"] * real, atol=TOLERANCE, rtol=0)
    assert source.config.has_pooler == ("pooler" in golden)
    if "pooler" in golden:
        pooled = encoder.pool_first(found[-1]).numpy()
        np.testing.assert_allclose(pooled, golden["pooler"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("model", families.ENCODERS)
def test_ids_states_of_all_layers_and_pooler_equal_pytorch(model: str, tmp_path: Path) -> None:
    source = read(families.ROOT / model)
    assert_golden(source, model)
    golden = families.expected(model)
    long = golden["long_ids"]
    assert source.config.max_text_positions == long.shape[1]
    found = states_of(families.make_encoder(source), long, np.ones_like(long))
    np.testing.assert_allclose(found, golden["long_states"], atol=TOLERANCE, rtol=0)
    (tmp_path / "tokenizer.json").write_text(source.tokenizer_json)
    prepared = SubwordInput(tmp_path / "tokenizer.json", None, 0).prepare(families.texts_of(golden))
    for index, mask in enumerate(golden["mask"]):
        ids = prepared.ids[prepared.starts[index] : prepared.starts[index + 1]]
        assert ids.tolist() == golden["ids"][index][: mask.sum()].tolist()


@pytest.mark.parametrize("model", families.ENCODERS)
def test_a_text_does_not_depend_on_its_batch_and_bfloat16_is_near(model: str) -> None:
    golden = families.expected(model)
    encoder = families.make_encoder(read(families.ROOT / model))
    narrow = states_of(encoder, golden["ids"], golden["mask"], "bfloat16")[-1]
    for index, length in enumerate(golden["mask"].sum(axis=1)):
        ids = golden["ids"][index : index + 1, :length]
        alone = states_of(encoder, ids, np.ones_like(ids))
        np.testing.assert_allclose(
            alone[:, 0], golden["states"][:, index, :length], atol=TOLERANCE, rtol=0, err_msg=str(index)
        )
        one, other = alone[-1, 0].mean(axis=0), narrow[index, :length].mean(axis=0)
        assert one @ other >= 0.999 * np.linalg.norm(one) * np.linalg.norm(other)


@pytest.mark.parametrize("model", families.CLASSIFIERS)
def test_logits_of_heads_equal_pytorch(model: str) -> None:
    import tensorflow as tf

    golden = families.expected(model)
    read_model = read_bert_source(str(families.ROOT / model), BertOptions(head=HeadOptions()))
    source = read_model.source
    encoder = families.make_encoder(source)
    states = tf.constant(states_of(encoder, golden["ids"], golden["mask"])[-1])
    below = states if source.config.labels_per_token else encoder.pool_first(states)
    logits = encoder.classify(below).numpy()
    real = golden["mask"] if logits.ndim == 3 else np.ones(len(logits), dtype=int)
    np.testing.assert_allclose(logits[real > 0], golden["logits"][real > 0], atol=TOLERANCE, rtol=0)
    assert source.head is not None
    entities = ("O", "B-PLACE", "I-PLACE", "B-NUMBER")
    assert source.head.labels == (entities if logits.ndim == 3 else ("bad", "so-so", "good"))


@pytest.mark.parametrize(
    "model", ["mpnet", "electra", "albert", "albert_groups", "mpnet_mood", "albert_mood"]
)
def test_transformers_tensorflow_names_give_the_same(model: str, tmp_path: Path) -> None:
    options = {"head": HeadOptions()} if model.endswith("_mood") else {}
    plain = read(families.ROOT / model, **options)
    found = read(families.write_h5(tmp_path / "h5", model), **options)
    assert found.config == plain.config
    for key, value in plain.weights.items():
        np.testing.assert_array_equal(found.weights[key], value, err_msg=key)


@pytest.mark.parametrize("model", ["electra", "albert", "albert_groups"])
def test_checkpoints_of_google_give_the_same(model: str, tmp_path: Path) -> None:
    plain = read(families.ROOT / model)
    found = read_bert_source(str(families.write_google(tmp_path / "google", model)), BertOptions())
    config = dataclasses.replace(plain.config, activation=found.source.config.activation)
    assert found.source.config == config
    # Google's own configurations mean the tanh form by gelu.
    assert config.activation == ("gelu" if model == "electra" else "gelu_tanh")
    assert any("tanh form" in note for note in found.notes) == (model != "electra")
    for key, value in plain.weights.items():
        np.testing.assert_array_equal(found.source.weights[key], value, err_msg=key)


def test_both_halves_of_pre_training_are_named_as_left_out() -> None:
    names = read_bert_source(str(families.ROOT / "electra"), BertOptions()).source.family.names
    for stored in (
        "generator/encoder/layer_0/output/dense/kernel",
        "generator_predictions/dense/kernel",
        "discriminator_predictions.dense.weight",
    ):
        assert names.ignored_kind(stored) == "pre-training heads"
        assert names.graph_weight(stored) is None


def test_the_projection_of_electra_is_there_exactly_if_the_widths_differ(tmp_path: Path) -> None:
    assert read(families.ROOT / "electra").config.embedding_dim == 8
    assert read(families.ROOT / "electra_wide").config.embedding_dim == 0
    folder = copy_source(tmp_path / "m", families.ROOT / "electra")
    edit_json(folder / "config.json", embedding_size=16)
    with pytest.raises(WeightsMismatchError, match="embeddings_project"):
        read(folder)


def test_buckets_of_distances_are_those_of_pytorch() -> None:
    from model_bundle.builders.graphs.mpnet import position_buckets

    near = position_buckets(np.arange(-9, 10), 32)
    assert near.tolist() == [8, 8, 7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23, 24, 24]
    # Where the logarithm reaches the next whole number: recorded from relative_position_bucket.
    steps = [8, 12, 16, 23, 32, 46, 64, 91]
    assert [int(position_buckets(np.array([-step]), 32)[0]) for step in steps] == list(range(8, 16))
    assert [int(position_buckets(np.array([1 - step]), 32)[0]) for step in steps] == [7, *range(8, 15)]
    assert position_buckets(np.array([-128, -5000, 128, 5000]), 32).tolist() == [15, 15, 31, 31]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("longformer", r"The nearest is RoBERTa.*, which lacks attention to a window and to global tokens"),
        ("llama", r"lacks a decoder's causal attention"),
        ("albert2", r"The nearest by its settings is ALBERT, which has no nobody_knows"),
    ],
)
def test_an_error_names_the_nearest_family_and_what_it_lacks(kind: str, said: str, tmp_path: Path) -> None:
    folder = copy_source(tmp_path / "m", families.ROOT / "albert")
    edit_json(folder / "config.json", model_type=kind, nobody_knows=1)
    with pytest.raises(SourceError, match=said):
        read(folder)

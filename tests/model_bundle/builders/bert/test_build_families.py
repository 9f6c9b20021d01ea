"""MPNet, ELECTRA, ALBERT, XLM-RoBERTa and CamemBERT from every format, against what PyTorch gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
from model_bundle.builders.bert.families.electra import ELECTRA
from model_bundle.builders.bert.families.registry import FAMILIES, find_family
from model_bundle.builders.bert.heads import HeadOptions
from model_bundle.builders.bert.match_weights import pair_names
from model_bundle.builders.bert.sentence_transformers import read_sentence_model
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import SettingsError, SourceError, WeightsMismatchError
from model_bundle.inference.encoder import Encoder
from model_bundle.quantize.bert.read_encoder import read_encoder
from model_bundle.text.subwords import SubwordInput
from tests.support.models import families
from tests.support.models.bert_formats import copy_source, edit_json

TOLERANCE = 1e-5


def read(folder: Path, **options: Any) -> BertSource:
    return read_bert_source(str(folder), BertOptions(**options)).source


@cache
def recorded(model: str) -> BertSource:
    return read(families.ROOT / model)


def weights_of(model: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stored weights under the graph's names, in the graph's layout."""
    config = json.loads((families.ROOT / model / "config.json").read_text())
    shapes = {name: array.shape for name, array in arrays.items()}
    stored = StoredWeights(shapes, lambda name: arrays[name], (), "test")
    names = pair_names(stored, find_family(config, "test").names, with_head=model.endswith("_mood"))
    assert not names.unknown
    return {
        key: arrays[name].T if weight.transposed else arrays[name]
        for key, (name, weight) in names.wanted.items()
    }


def assert_same_weights(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


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
    source = recorded(model)
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


@pytest.mark.parametrize("model", ["xlm_roberta", "camembert", "bert_unigram", "albert"])
def test_a_unigram_tokenizer_is_what_its_file_says(model: str) -> None:
    # transformers builds all but the vocabulary from the tokenizer's class.
    stated = json.loads((families.ROOT / model / "tokenizer.json").read_text())
    found = json.loads(recorded(model).tokenizer_json)
    for part in ("model", "normalizer", "pre_tokenizer", "post_processor", "added_tokens"):
        assert found[part] == stated[part], part


@pytest.mark.parametrize("model", ["mpnet", "electra", "albert_groups"])
def test_a_text_does_not_depend_on_its_batch_and_bfloat16_is_near(model: str) -> None:
    golden = families.expected(model)
    encoder = families.make_encoder(recorded(model))
    narrow = states_of(encoder, golden["ids"], golden["mask"], "bfloat16")[-1]
    lengths = golden["mask"].sum(axis=1)
    for index, length in enumerate(lengths):
        one, other = golden["states"][-1, index, :length].mean(axis=0), narrow[index, :length].mean(axis=0)
        assert one @ other >= 0.999 * np.linalg.norm(one) * np.linalg.norm(other)
        if index and length < lengths.max():
            continue
        ids = golden["ids"][index : index + 1, :length]
        alone = states_of(encoder, ids, np.ones_like(ids))
        np.testing.assert_allclose(
            alone[:, 0], golden["states"][:, index, :length], atol=TOLERANCE, rtol=0, err_msg=str(index)
        )


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
    "model", ["mpnet", "electra", "albert", "albert_groups", "mpnet_mood", "electra_mood", "albert_mood"]
)
def test_names_of_transformers_tensorflow_and_of_google_say_the_same(model: str) -> None:
    expected = weights_of(model, families.stored_weights(model))
    assert_same_weights(weights_of(model, families.tensorflow_weights(model)), expected)
    if model in ("electra", "albert", "albert_groups"):
        assert_same_weights(weights_of(model, families.google_weights(model)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mpnet", "electra", "albert"])
def test_tf_model_h5_gives_the_same(model: str, tmp_path: Path) -> None:
    found = read(families.write_h5(tmp_path / "h5", model))
    assert found.config == recorded(model).config
    assert_same_weights(found.weights, recorded(model).weights)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["electra", "albert"])
def test_checkpoints_of_google_give_the_same_and_albert_s_gelu_is_that_of_its_code(
    model: str, tmp_path: Path
) -> None:
    read_model = read_bert_source(str(families.write_google(tmp_path / "google", model)), BertOptions())
    # What Google's file calls gelu is gelu_new in that of transformers; ELECTRA has no file of Google's.
    assert read_model.source.config == recorded(model).config
    said = [note for note in read_model.notes if "tanh form" in note and "albert_config.json" in note]
    assert len(said) == (model == "albert")
    assert_same_weights(read_model.source.weights, recorded(model).weights)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mpnet", "albert_groups"])
def test_a_bundle_encodes_as_pytorch_does_and_can_be_trained(model: str, tmp_path: Path) -> None:
    import tensorflow as tf

    from model_bundle.layers.embedding import BundleEmbedding

    bundle = build_encoder_bundle(recorded(model), tmp_path / "bundle")
    golden = families.expected(model)
    real = golden["mask"][:, :, np.newaxis]
    mean = (golden["states"][-1] * real).sum(axis=1) / real.sum(axis=1)
    texts = families.texts_of(golden)
    encoder = Encoder(bundle, pooling="mean", max_batch_tokens=64)
    assert encoder.runtime.unfrozen_reason is None
    np.testing.assert_allclose(encoder.encode(texts), mean, atol=TOLERANCE, rtol=0)
    narrow = Encoder(bundle, pooling="mean", precision="bfloat16").encode(texts)
    lengths = np.linalg.norm(narrow, axis=1) * np.linalg.norm(mean, axis=1)
    assert ((narrow * mean).sum(axis=1) >= 0.999 * lengths).all()
    layer = BundleEmbedding(bundle, trainable=True)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(layer.tokenize(["the cat", "on"])) ** 2)
    variables = layer.trainable_variables
    shared = "relative_bias" if model == "mpnet" else "group_1"
    assert any(shared in variable.path for variable in variables)
    assert all(gradient is not None for gradient in tape.gradient(total, variables))


def test_the_limit_of_a_sentence_model_of_albert_is_read(tmp_path: Path) -> None:
    kinds = {"": "ALBERT", "1_Pooling": "Pooling"}
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "1_Pooling").mkdir()
    edit_json(tmp_path / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True)
    edit_json(tmp_path / "sentence_albert_config.json", max_seq_length=100, do_lower_case=False)
    found = read_sentence_model(SourceFolder(tmp_path))
    assert found is not None
    assert found.max_tokens == 100


def test_both_halves_of_pre_training_are_named_as_left_out() -> None:
    names = ELECTRA.names
    for stored in (
        "generator/encoder/layer_0/output/dense/kernel",
        "generator_predictions/dense/kernel",
        "discriminator_predictions.dense.weight",
    ):
        assert names.ignored_kind(stored) == "pre-training heads"
        assert names.graph_weight(stored) is None


def test_the_projection_of_electra_is_there_exactly_if_the_widths_differ(tmp_path: Path) -> None:
    assert recorded("electra").config.embedding_dim == 8
    assert recorded("electra_wide").config.embedding_dim == 0
    folder = copy_source(tmp_path / "m", families.ROOT / "electra")
    edit_json(folder / "config.json", embedding_size=16)
    with pytest.raises(WeightsMismatchError, match="embeddings_project"):
        read(folder)


def test_buckets_of_distances_are_those_of_pytorch() -> None:
    from model_bundle.builders.graphs.encoders.mpnet import position_buckets

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


def test_int8_is_offered_for_the_families_that_the_page_says(
    build_tiny: Callable[[str], ModelBundle],
) -> None:
    bundle = build_tiny("tiny_bert")
    assert {family.name for family in FAMILIES if family.has_int8} == {"bert"}
    for name in {family.name for family in FAMILIES if not family.has_int8}:
        manifest = bundle.manifest.model_copy(update={"family": name})
        with pytest.raises(SettingsError, match=f"is a {name} model; int8 is offered for BERT"):
            read_encoder(ModelBundle(bundle.path, manifest, bundle.digest))

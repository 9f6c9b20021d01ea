"""ModernBERT and DeBERTa with every switch of their configurations, against PyTorch (``tests/goldens``)."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.builders.bert.families.registry import encoder_config, find_family
from model_bundle.builders.bert.match_weights import pair_names, read_weights
from model_bundle.builders.bert.sentencepiece import has_only_model_file, read_model_file
from model_bundle.builders.bert.source import BertOptions, read_bert_source
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.errors import SourceError
from tests.conftest import DATA_DIR
from tests.support.models.bert_formats import copy_source, edit_json

TOLERANCE = 1e-5
HUGE = 10**7
# One of each architecture runs always; all together take some seconds.
_ALWAYS = ("modernbert_mood_mean", "deberta_v3", "deberta1")
GOLDENS = [
    pytest.param(path, marks=() if path.stem in _ALWAYS else pytest.mark.slow, id=path.stem)
    for path in sorted((DATA_DIR / "encoders").glob("*.npz"))
]


@cache
def golden(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def encoder_of(arrays: dict[str, np.ndarray], **changes: Any) -> Any:
    """Builds the graph from a recorded configuration and its weights, by their stored names."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    raw = json.loads(arrays["config"].tobytes()) | changes
    weights = {name.removeprefix("weights/"): arrays[name] for name in arrays if name.startswith("weights/")}
    stored = StoredWeights(
        {name: value.shape for name, value in weights.items()},
        lambda name: weights[name].astype(np.float32),
        (),
        "recorded",
    )
    family = find_family(raw, "test")
    with_head = "logits" in arrays
    names = pair_names(stored, family.names, with_head=with_head)
    config = encoder_config(raw, has_pooler=names.has_pooler, where="test")
    if with_head:
        config = replace(config, num_labels=3, labels_per_token=arrays["logits"].ndim == 3)
    return family.graph()(config, read_weights(config, stored, names, "test"), "test")


def run(encoder: Any, ids: np.ndarray, mask: np.ndarray, dtype: str = "float32") -> np.ndarray:
    import tensorflow as tf

    states = encoder.encode(tf.constant(ids, tf.int32), tf.constant(mask, tf.int32), tf.as_dtype(dtype))
    return np.stack([state.numpy() for state in states])


def assert_near(found: np.ndarray, expected: np.ndarray, mask: np.ndarray) -> None:
    """Compares the states of real tokens: [layers, texts, tokens, dim]."""
    real = mask > 0
    np.testing.assert_allclose(found[:, real], expected[:, real], atol=TOLERANCE, rtol=TOLERANCE)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the cosine of each pair of rows."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((one * other).sum(axis=-1) / lengths)


@pytest.mark.parametrize("path", GOLDENS)
def test_states_of_every_layer_equal_pytorch(path: Path) -> None:
    arrays = golden(path)
    encoder, mask = encoder_of(arrays), arrays["mask"]
    states = run(encoder, arrays["ids"], mask)
    assert_near(states, arrays["states"], mask)
    if "logits" in arrays:
        import tensorflow as tf

        last = tf.constant(states[-1])
        per_token = arrays["logits"].ndim == 3
        below = last if per_token else encoder.pool_first(last, tf.float32, tf.constant(mask, tf.int32))
        logits = encoder.classify(below).numpy()
        real = mask > 0 if per_token else slice(None)
        np.testing.assert_allclose(logits[real], arrays["logits"][real], atol=TOLERANCE, rtol=TOLERANCE)
    narrow = run(encoder, arrays["ids"], mask, "bfloat16")
    weight = (mask / mask.sum(axis=1, keepdims=True))[:, :, np.newaxis]
    assert cosines((narrow[-1] * weight).sum(axis=1), (states[-1] * weight).sum(axis=1)).min() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["modernbert_plain", "deberta_v3", "deberta_conv"])
def test_a_text_does_not_depend_on_its_batch(name: str) -> None:
    arrays = golden(DATA_DIR / "encoders" / f"{name}.npz")
    encoder = encoder_of(arrays)
    for text, mask in enumerate(arrays["mask"]):
        num_tokens = mask.sum()
        alone = run(encoder, arrays["ids"][[text], :num_tokens], mask[np.newaxis, :num_tokens])
        expected = arrays["states"][:, [text], :num_tokens]
        assert_near(alone, expected, np.ones((1, num_tokens)))
        # Whatever fills the rest of the row.
        noise = np.where(mask > 0, arrays["ids"][text], 7)[np.newaxis]
        assert_near(
            run(encoder, noise, mask[np.newaxis])[:, :, :num_tokens], expected, np.ones((1, num_tokens))
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["modernbert_long", "deberta_long"])
def test_long_texts_equal_pytorch(name: str) -> None:
    arrays = golden(DATA_DIR / "encoders" / f"{name}.npz")
    kept = arrays["long_tokens"]
    states = run(encoder_of(arrays), arrays["long_ids"], arrays["long_mask"])[:, :, kept]
    assert_near(states, arrays["long_states"], arrays["long_mask"][:, kept])


def test_a_window_as_wide_as_the_texts_costs_no_more_than_they_do() -> None:
    arrays = golden(DATA_DIR / "encoders" / "modernbert_long.npz")
    ids, mask = arrays["long_ids"][2:, :385], arrays["long_mask"][2:, :385]
    at_once = run(encoder_of(arrays, local_attention=2 * 400), ids, mask)
    # Blocks of this width would be of five million tokens.
    assert_near(run(encoder_of(arrays, local_attention=HUGE), ids, mask), at_once, mask)


@pytest.mark.parametrize("name", ["modernbert", "deberta"])
def test_a_folder_has_pytorch_s_ids_and_states(name: str) -> None:
    from tokenizers import Tokenizer

    source = read_bert_source(str(DATA_DIR / "encoders" / name), BertOptions()).source
    with np.load(DATA_DIR / "encoders" / name / "expected.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    ids, mask = arrays["ids"], arrays["mask"]
    backend = Tokenizer.from_str(source.tokenizer_json)
    for row, real, text in zip(ids, mask, json.loads(arrays["texts"].tobytes()), strict=True):
        assert backend.encode(text).ids == row[real > 0].tolist()
    assert source.tokenizer_json
    encoder = source.family.graph()(source.config, source.weights, "test")
    assert_near(run(encoder, ids, mask), arrays["states"], mask)


def test_a_model_file_of_sentencepiece_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = SourceFolder(DATA_DIR / "encoders" / "deberta_spm")
    assert has_only_model_file(folder)
    backend = Tokenizer.from_str(read_model_file(folder, None).json_text)
    for text, ids in json.loads((folder.root / "expected.json").read_text()):
        assert backend.encode(text).ids == ids, text
    with pytest.raises(SourceError, match="states another casing"):
        read_model_file(folder, True)
    copied = copy_source(tmp_path / "m", folder.root)
    edit_json(copied / "tokenizer_config.json", cls_token="<cls>")
    with pytest.raises(SourceError, match="lacks <cls>"):
        read_model_file(SourceFolder(copied), None)
    (copied / "spm.model").write_bytes(b"no model")
    with pytest.raises(SourceError, match="is not a"):
        read_model_file(SourceFolder(copied), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": ["full_attention"]}, "'layer_types' is .*; expected 4 names"),
        ({"layer_types": ["sliding_attention"] * 4}, "name other layers as global"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "scaled rotary positions"),
        ({"rope_parameters": {"full_attention": {"factor": 2.0}}}, "scaled rotary positions"),
        ({"rope_parameters": {"local": {}}}, "expected full_attention and sliding_attention"),
        ({"global_rope_theta": -1.0}, "expected a number over 0"),
        ({"rope_scaling": {"rope_type": "linear"}}, "sets 'rope_scaling'"),
        ({"num_attention_heads": 16}, "an even number per head"),
        ({"classifier_pooling": "max"}, "expected cls or mean"),
        ({"position_embedding_type": "relative_key"}, "expected 'absolute'"),
    ],
)
def test_what_modernbert_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        encoder_of(golden(DATA_DIR / "encoders" / "modernbert_plain.npz"), **changes)


def test_both_ways_to_write_modernbert_s_layers_and_bases_are_read() -> None:
    raw = json.loads(golden(DATA_DIR / "encoders" / "modernbert_thetas.npz")["config"].tobytes())
    before = encoder_config(raw, has_pooler=False, where="test")
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    thetas = {"full_attention": 500.0, "sliding_attention": 20.0}
    older = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
    newer = {key: value for key, value in raw.items() if key not in older} | {
        "layer_types": kinds,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()
        },
    }
    assert encoder_config(newer, has_pooler=False, where="test") == before


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("v3", {"pos_att_type": "c2p|p2p"}, "'pos_att_type' is 'c2p.p2p'; expected each of c2p, p2c once"),
        ("v3", {"pos_att_type": ["c2p", "c2p"]}, "expected each of"),
        ("v3", {"norm_rel_ebd": "batch_norm"}, "'norm_rel_ebd' is 'batch_norm'"),
        ("v3", {"embedding_size": 8}, "'embedding_size' to 8; only 16"),
        ("v3", {"attention_head_size": 4}, "'attention_head_size' to 4; only 8"),
        ("v3", {"pooler_hidden_size": 8}, "'pooler_hidden_size' to 8"),
        ("v3", {"relative_attention": "yes"}, "expected true or false"),
        ("conv", {"conv_groups": 2}, "'conv_groups' to 2"),
        ("conv", {"conv_kernel_size": 4}, "expected an odd number"),
        ("conv", {"conv_act": "swish"}, "'conv_act' is activation 'swish'"),
    ],
)
def test_what_deberta_cannot_be_is_refused(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        encoder_of(golden(DATA_DIR / "encoders" / f"deberta_{name}.npz"), **changes)


def test_heads_that_talk_to_each_other_are_refused() -> None:
    with pytest.raises(SourceError, match="sets 'talking_head'"):
        encoder_of(golden(DATA_DIR / "encoders" / "deberta1.npz"), talking_head=True)

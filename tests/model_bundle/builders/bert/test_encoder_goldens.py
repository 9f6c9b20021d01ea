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
from model_bundle.builders.weights.stored import StoredWeights
from tests.conftest import DATA_DIR

TOLERANCE = 1e-5
GOLDENS = sorted((DATA_DIR / "encoders").glob("*.npz"))


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


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("name", ["modernbert_long", "deberta_long"])
def test_long_texts_equal_pytorch(name: str) -> None:
    arrays = golden(DATA_DIR / "encoders" / f"{name}.npz")
    kept = arrays["long_tokens"]
    states = run(encoder_of(arrays), arrays["long_ids"], arrays["long_mask"])[:, :, kept]
    assert_near(states, arrays["long_states"], arrays["long_mask"][:, kept])

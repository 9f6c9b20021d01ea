"""all-MiniLM-L6-v2 against what sentence-transformers, transformers and PyTorch gave, one text at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.base.machine import has_fast_bfloat16
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling, Precision
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from model_bundle.text import text_input
from tests.conftest import shared_path
from tests.support.examples import examples


@pytest.fixture(scope="module")
def bundle(minilm_bundle: Path) -> ModelBundle:
    return ModelBundle.open(minilm_bundle)


@pytest.fixture(scope="module")
def encoder(bundle: ModelBundle) -> Encoder:
    return Encoder(bundle)


@pytest.fixture(scope="module")
def first_encoder(bundle: ModelBundle) -> Encoder:
    """Not normalised, so that lengths tell something."""
    return Encoder(bundle, pooling="first")


@pytest.fixture(scope="module")
def bfloat16_encoder(bundle: ModelBundle) -> Encoder:
    """Not normalised, so that lengths tell something."""
    if not has_fast_bfloat16():
        pytest.skip("this processor does not multiply bfloat16 in hardware")
    return Encoder(bundle, normalize=False, precision="bfloat16")


@pytest.fixture(scope="module")
def texts() -> dict[str, Any]:
    return dict(json.loads(shared_path("fixtures/minilm/texts.json").read_text()))


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(shared_path("fixtures/minilm/reference.npz")) as stored:
        return {name: stored[name] for name in stored.files}


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    product = (left.astype(np.float64) * right).sum(axis=-1)
    found: np.ndarray = product / (np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1))
    return found


def norms(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    return found


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """The measure of float32: cosine, every element, length."""
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99999
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(norms(found), norms(expected), rtol=1e-4)


@pytest.mark.slow
def test_the_bundle_says_what_sentence_transformers_does(bundle: ModelBundle, texts: dict[str, Any]) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.task, manifest.licence) == ("minilm", "embed", "Apache-2.0")
    assert (manifest.pooling, manifest.normalize) == (Pooling.MEAN, True)
    assert manifest.max_tokens == texts["max_tokens"] == 256
    assert manifest.tokenizer.lowercase is True
    assert manifest.source.location == "sentence-transformers/all-MiniLM-L6-v2"
    assert manifest.source.files["model.safetensors"].startswith("53aa51172d142c89")


def test_ids_and_lengths_of_every_text_are_those_of_the_reference_tokenizer(
    bundle: ModelBundle, texts: dict[str, Any]
) -> None:
    prepared = text_input(bundle.path, bundle.manifest, 256, "").prepare(texts["texts"])
    assert prepared.num_tokens.tolist() == texts["num_tokens_untruncated"]
    for index, expected in enumerate(texts["input_ids"]):
        batch = prepared.batch(np.array([index]))
        assert batch["ids"][0].tolist() == expected
        assert batch["mask"].all()


@pytest.mark.slow
def test_float32_vectors_of_every_text_equal_the_reference(
    encoder: Encoder, texts: dict[str, Any], reference: dict[str, np.ndarray]
) -> None:
    assert texts["texts"][120] == ""  # an empty text gets what the reference gives it
    assert_same(encoder.encode(texts["texts"]), reference["mean_normalized"])


def test_weights_became_constants(encoder: Encoder) -> None:
    assert encoder.runtime.unfrozen_reason is None


@pytest.mark.slow
def test_the_first_token_of_every_text_equals_the_reference(
    first_encoder: Encoder, texts: dict[str, Any], reference: dict[str, np.ndarray]
) -> None:
    assert_same(first_encoder.encode(texts["texts"]), reference["cls"])


@pytest.mark.slow
def test_token_states_equal_the_reference(
    bundle: ModelBundle, texts: dict[str, Any], reference: dict[str, np.ndarray]
) -> None:
    request = EncodeRequest(("states_6",), None, False, 256, "", Precision.FLOAT32)
    runtime = TensorFlowRuntime(bundle, request)
    prepared = text_input(bundle.path, bundle.manifest, 256, "").prepare(texts["texts"][:4])
    states = runtime.run(prepared.batch(np.arange(4)))["states_6"]
    for index in range(4):
        expected = reference[f"token_states_{index}"]
        assert_same(states[index, : len(expected)], expected)


@pytest.mark.slow
def test_bfloat16_vectors_are_close_to_the_reference(
    bfloat16_encoder: Encoder, texts: dict[str, Any], reference: dict[str, np.ndarray]
) -> None:
    found = bfloat16_encoder.encode(texts["texts"])
    assert cosines(found, reference["mean_normalized"]).min() >= 0.999


WORDS = ("the", "cat", "sat", "on", "a", "mat", "北京", "🙂", "[SEP]")
TEXTS = st.lists(
    st.text(max_size=60) | st.lists(st.sampled_from(WORDS)).map(" ".join), min_size=1, max_size=12
)
BUDGETS = st.integers(min_value=1, max_value=600)


@pytest.mark.slow
@settings(max_examples=examples(12), deadline=None)
@given(TEXTS, st.randoms(use_true_random=False), BUDGETS)
def test_a_text_has_the_same_vector_alone_and_in_any_company(
    encoder: Encoder, first_encoder: Encoder, texts: list[str], random: Any, max_batch_tokens: int
) -> None:
    for each in (encoder, first_encoder):
        assert_independent(each, texts, random, max_batch_tokens, difference=1e-5, cosine=0.999999)


@settings(max_examples=examples(12), deadline=None)
@given(TEXTS, st.randoms(use_true_random=False), BUDGETS)
def test_so_it_has_in_bfloat16(
    bfloat16_encoder: Encoder, texts: list[str], random: Any, max_batch_tokens: int
) -> None:
    assert_independent(bfloat16_encoder, texts, random, max_batch_tokens, difference=1e-2, cosine=0.9999)


def assert_independent(
    encoder: Encoder, texts: list[str], random: Any, max_batch_tokens: int, difference: float, cosine: float
) -> None:
    """Alone against shuffled, under any budget: angle, length, and every number relative to the length."""
    order = list(range(len(texts)))
    random.shuffle(order)
    company = TextEncoder(encoder.bundle, encoder.runtime, max_batch_tokens)
    together = company.encode_each([texts[index] for index in order]).vectors["states_6"]
    alone = np.concatenate([encoder.encode([texts[index]]) for index in order])
    lengths = norms(alone)
    assert cosines(together, alone).min() >= cosine
    np.testing.assert_allclose(norms(together), lengths, rtol=difference)
    np.testing.assert_array_less(np.abs(together - alone).max(axis=1), difference * lengths)

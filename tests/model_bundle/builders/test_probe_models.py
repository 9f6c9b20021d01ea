"""Models that mind their batch: found out when the bundle is built, and given batches that suit them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.builders.tfhub.build import build_hub_bundle
from model_bundle.builders.tfhub.resolve import HubChoices
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import SourceError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.text_encoder import TextEncoder
from tests.support.models.hub_modules import DIM, Toy, save_signatures
from tests.support.models.saved_models import save

# Twice a space is one word less for the graph than counting spaces says; "boom" makes the graph fail.
TEXTS = ["a cat", "a  cat", "the cat sat on the mat", "one", "it  was   late", "we ran home"]
Build = Callable[[str], ModelBundle]


def _checked(text: Any) -> Any:
    bad = tf.reduce_any(tf.strings.regex_full_match(text, ".*boom.*"))
    with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(bad), ["boom"])]):
        return tf.identity(text)


def clean(toy: Toy, text: Any) -> Any:
    return toy.mean(_checked(text))


def squeezed(toy: Toy, text: Any) -> Any:
    return tf.squeeze(toy.mean(_checked(text)))


def padded_mean(toy: Toy, text: Any) -> Any:
    return tf.reduce_mean(toy.words(_checked(text))[0], axis=1)


def squeezed_padded_mean(toy: Toy, text: Any) -> Any:
    return tf.squeeze(padded_mean(toy, text))


MODELS = {
    clean: (1, False),
    squeezed: (2, False),
    padded_mean: (1, True),
    squeezed_padded_mean: (2, True),
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    made: dict[str, ModelBundle] = {}

    def build(name: str) -> ModelBundle:
        if name not in made:
            folder, toy = tmp_path_factory.mktemp(name), Toy()
            model = next(model for model in MODELS if model.__name__ == name)
            save(folder / "module", lambda text: {"vector": model(toy, text)}, toy)
            made[name] = build_hub_bundle(str(folder / "module"), HubChoices(), folder / "bundle").bundle
        return made[name]

    return build


def alone(name: str, text: str) -> np.ndarray:
    """float32[dim]: what a model gives a text without a neighbour."""
    toy = Toy()
    mean = padded_mean if "padded" in name else clean
    return np.asarray(mean(toy, tf.constant([text])))[0]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_behaviour_is_recorded_and_vectors_are_those_of_the_text_alone(model: Any, build: Build) -> None:
    name = model.__name__
    bundle = build(name)
    assert (bundle.manifest.min_batch, bundle.manifest.batch_dependent) == MODELS[model]
    for texts in (TEXTS, TEXTS[:1], TEXTS[3:]):
        found = Encoder(bundle).encode(texts)
        expected = [alone(name, text) for text in texts]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_text_that_fails_costs_itself_alone(model: Any, build: Build) -> None:
    """Halving ends at single texts, which some of these models fail on without a second one."""
    encoder, words = Encoder(build(model.__name__)), st.sampled_from(["a", "cat", "boom", "mat "])

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.lists(words, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=9))
    def check(texts: list[str]) -> None:
        found = TextEncoder(encoder.bundle, encoder.runtime).encode_each(texts)
        assert [failure.text_index for failure in sorted(found.failures, key=lambda f: f.text_index)] == [
            index for index, text in enumerate(texts) if "boom" in text
        ]
        assert found.vectors["vector"].shape == (len(texts), DIM)  # the second one never shows
        for index, text in enumerate(texts):
            if "boom" not in text:
                expected = alone(model.__name__, text)
                np.testing.assert_allclose(found.vectors["vector"][index], expected, atol=1e-6)

    check()


def save_words(path: Path) -> Path:
    """Words and their number in; a mean that counts padding out. The graph splits nothing."""
    toy = Toy()

    def serve(tokens: Any, sequence_len: Any) -> dict[str, Any]:
        del sequence_len
        ids = tf.strings.to_hash_bucket_fast(tokens, 64)
        return {"vector": tf.reduce_mean(tf.gather(toy.table, ids), axis=1)}

    specs = (tf.TensorSpec([None, None], tf.string), tf.TensorSpec([None], tf.int32))
    toy.serve = tf.function(serve, input_signature=specs, autograph=False)
    tf.saved_model.save(toy, str(path), signatures={"serving_default": toy.serve})
    return path


def test_words_make_batches_of_one_length_not_of_one_text(tmp_path: Path) -> None:
    bundle = build_hub_bundle(str(save_words(tmp_path / "module")), HubChoices(), tmp_path / "bundle").bundle
    assert bundle.manifest.batch_dependent
    encoder = Encoder(bundle)
    sizes: list[int] = []

    class Watched:
        request, unfrozen_reason, ready_seconds, parallelism = encoder.request, None, 0.0, 1

        def run(self, inputs: Any) -> dict[str, np.ndarray]:
            sizes.append(len(inputs["words"]))
            return encoder.runtime.run(inputs)

    texts = ["a b", "c d", "e f g", "h  i", "j"]
    watched = TextEncoder(bundle, Watched(), max_batch_tokens=4096)
    found = watched.encode_each(texts).vectors["vector"]
    assert sorted(sizes) == [1, 1, 3]
    expected = [encoder.encode([text])[0] for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_random_model_is_refused(tmp_path: Path) -> None:
    toy = Toy()

    def dropout(text: Any) -> Any:
        return tf.nn.dropout(tf.tile(toy.mean(text), [1, 50]), 0.5)

    module = save_signatures(tmp_path / "module", toy, serving_default=dropout)
    with pytest.raises(SourceError, match="mixes the texts of a batch, or is random"):
        build_hub_bundle(str(module), HubChoices(), tmp_path / "bundle")

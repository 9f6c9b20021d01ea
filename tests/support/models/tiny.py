"""Models small enough to build in a test, which fail on purpose where a test asks for it."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, save_module
from model_bundle.builders.bert.build import BertSource, build_encoder_bundle
from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.specs import InputSpec, OutputSpec, Pooling, SourceSpec, TokenizerSpec

DIM = 16
# A text with this word makes the encoder fail, or give NaN: its id lies behind the table of word embeddings,
# or its row there is NaN.
FAILING_WORD = "failword"
NAN_WORD = "nanword"
# The same for the model that takes text; the failure of its graph quotes the text, as such graphs do.
EXPLODING_MARK = "explode!"
# Here a number of the vector is larger than float16 can hold.
LARGE_MARK = "large!"

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "home", "quick", "brown", "and", "of", "time")
_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation + "äöüéß北京日本шабдмир"
_SOURCE = SourceSpec(kind="test", location="made here")


def build_tiny_bundle(
    output: Path,
    *,
    num_layers: int = 2,
    normalize: bool = True,
    outlier: float = 1.0,
    inner_dim: int = 32,
) -> ModelBundle:
    """Builds a BERT of two layers and 16 dimensions with random weights and a pooler.

    ``outlier``: how many times larger one channel inside each feed-forward layer is; what it adds is as large
    as before.
    """
    vocabulary = tiny_vocabulary()
    config = BertConfig(
        num_layers=num_layers,
        num_heads=2,
        dim=DIM,
        inner_dim=inner_dim,
        vocab_size=vocabulary[FAILING_WORD],
        max_positions=128,
        num_types=2,
        norm_epsilon=1e-12,
        has_pooler=True,
    )
    source = BertSource(
        name="tiny",
        config=config,
        weights=_weights(config, vocabulary[NAN_WORD], outlier),
        tokenizer_json=tiny_tokenizer(vocabulary).to_str(),
        lowercase=True,
        max_tokens=64,
        pooling=Pooling.MEAN,
        normalize=normalize,
        source=_SOURCE,
        licence="Apache-2.0",
        licence_text="Apache License, Version 2.0",
        prompts={"query": "time of "},
    )
    return build_encoder_bundle(source, output)


def tiny_vocabulary() -> dict[str, int]:
    """Returns the vocabulary; the failing word comes last."""
    pieces = [*_CHARACTERS, *(f"##{character}" for character in _CHARACTERS)]
    tokens = dict.fromkeys([*_SPECIAL, *_WORDS, *pieces, NAN_WORD, FAILING_WORD])
    return {token: index for index, token in enumerate(tokens)}


def tiny_tokenizer(vocabulary: dict[str, int]) -> Any:
    """Builds BERT's tokenizer over a vocabulary."""
    from tokenizers import BertWordPieceTokenizer

    return BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)


def _weights(config: BertConfig, nan_id: int, outlier: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    weights = {
        name: random.normal(0.0, 0.3, shape).astype(np.float32) + np.float32(name.endswith("gamma"))
        for name, shape in weight_shapes(config).items()
    }
    weights["embeddings/word"][nan_id] = np.nan
    for index in range(config.num_layers):
        weights[f"layer_{index}/ffn/inner/kernel"][:, 0] *= outlier
        weights[f"layer_{index}/ffn/outer/kernel"][0] /= outlier
    return weights


def build_text_bundle(output: Path) -> ModelBundle:
    """Builds a model that takes the text itself: a vector of its length and 1."""
    manifest = BundleManifest(
        name="lengths",
        task="embed",
        family="saved_model",
        inputs={"text": InputSpec(role="text", dtype="string")},
        outputs={"vector": OutputSpec(kind="text", dim=2)},
        default_output="vector",
        tokenizer=TokenizerSpec(kind="text"),
        source=_SOURCE,
        licence="Apache-2.0",
    )
    return assemble(output, manifest, _write_text_model)


def _write_text_model(staging: Path) -> None:
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    module = tf.Module()

    text_spec = tf.TensorSpec([None], tf.string, name="text")

    @tf.function(autograph=False, input_signature=[text_spec])  # type: ignore[untyped-decorator]
    def serve(text: Any) -> dict[str, Any]:
        bad = tf.strings.regex_full_match(text, f"(?s).*{EXPLODING_MARK}.*")
        check = tf.debugging.Assert(tf.logical_not(tf.reduce_any(bad)), [text])
        large = tf.strings.regex_full_match(text, f"(?s).*{LARGE_MARK}.*")
        with tf.control_dependencies([check]):
            length = tf.cast(tf.strings.length(text), tf.float32)
        first = tf.where(large, tf.constant(1e6), length)
        return {"vector": tf.stack([first, tf.ones_like(length)], axis=1)}

    module.serve = serve
    save_module(module, staging / SAVED_MODEL_DIR, {"serving_default": serve})
    (staging / LICENCE_NAME).write_text("Apache License, Version 2.0")

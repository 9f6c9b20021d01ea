"""Builds model bundles from encoders of Hugging Face, Google and sentence-transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, save_module
from model_bundle.builders.bert.families.bert import BERT
from model_bundle.builders.bert.families.family import Family
from model_bundle.builders.bert.heads import BertHead
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.specs import (
    InputSpec,
    OutputSpec,
    Pooling,
    SentenceSpec,
    Similarity,
    SourceSpec,
    TokenizerSpec,
)

# What a graph calls the vector that it computes itself; as in sentence-transformers.
SENTENCE_OUTPUT = "sentence_embedding"


@dataclass(frozen=True)
class BertSource:
    """Everything that was read from a source, checked before anything is built.

    ``weights`` are float32 arrays, named as in ``weight_shapes``. ``head`` is None for the encoder alone.
    ``sentence``: what the graph makes of the states itself, ``sentence_dim`` numbers; ``sentence_weights``
    are those of its modules, see ``SentenceHead``.
    """

    name: str
    config: BertConfig
    weights: dict[str, np.ndarray]
    tokenizer_json: str
    lowercase: bool | None
    max_tokens: int
    pooling: Pooling | None
    normalize: bool
    source: SourceSpec
    licence: str
    licence_text: str
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    head: BertHead | None = None
    family: Family = BERT
    sentence: SentenceSpec | None = None
    sentence_weights: dict[str, np.ndarray] = field(default_factory=dict)
    sentence_dim: int = 0
    similarity: Similarity | None = None


def build_encoder_bundle(source: BertSource, output: Path) -> ModelBundle:
    """Exports an encoder, with its head if it has one, and assembles its bundle."""
    return assemble(output, _manifest(source), lambda staging: _write_files(source, staging))


def _write_files(source: BertSource, staging: Path) -> None:
    tokenizer = staging / TOKENIZER_FILE
    tokenizer.parent.mkdir(parents=True)
    tokenizer.write_text(source.tokenizer_json, encoding="utf-8")
    (staging / LICENCE_NAME).write_text(source.licence_text, encoding="utf-8")
    _export(source, staging / SAVED_MODEL_DIR)


def _export(source: BertSource, directory: Path) -> None:
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    encoder = source.family.graph()(source.config, source.weights, source.source.location)
    sentence = None
    if source.sentence is not None:
        from model_bundle.builders.graphs.sentence import SentenceHead

        sentence = encoder.sentence = SentenceHead(source.sentence, source.sentence_weights)
    save_module(encoder, directory, float_signatures(encoder, source.config, sentence))


def float_signatures(encoder: Any, config: BertConfig, sentence: Any = None) -> dict[str, Any]:
    """Traces the float signatures of an encoder, with its pooler and classifier if it has them."""
    import tensorflow as tf

    return {
        "serving_default": trace(encoder, config, tf.float32, sentence),
        "serving_bfloat16": trace(encoder, config, tf.bfloat16, sentence),
    }


def trace(encoder: Any, config: BertConfig, dtype: Any, sentence: Any = None) -> Any:
    """Traces one signature of a ``BertEncoder``, with a ``SentenceHead`` if it has one."""
    import tensorflow as tf

    spec = {
        "input_ids": tf.TensorSpec([None, None], tf.int32, name="input_ids"),
        "attention_mask": tf.TensorSpec([None, None], tf.int32, name="attention_mask"),
    }

    def compute(
        input_ids: Any, attention_mask: Any, types: Any = None, skipped: Any = None
    ) -> dict[str, Any]:
        given = () if types is None else (types,)
        states = encoder.encode(input_ids, attention_mask, dtype, *given)
        outputs = {f"states_{index}": state for index, state in enumerate(states)}
        if config.has_pooler:
            outputs["pooler"] = encoder.pool_first(states[-1], dtype, attention_mask)
        if config.num_labels:
            outputs["logits"] = encoder.classify(states[-1] if config.labels_per_token else outputs["pooler"])
        if sentence is not None:
            outputs[SENTENCE_OUTPUT] = sentence.embed(states[-1], attention_mask, skipped)
        return outputs

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def serve(input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        return compute(input_ids, attention_mask)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def serve_after_prompt(input_ids: Any, attention_mask: Any, skipped: Any) -> dict[str, Any]:
        return compute(input_ids, attention_mask, None, skipped)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def serve_pairs(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> dict[str, Any]:
        return compute(input_ids, attention_mask, token_type_ids)

    if config.takes_types:
        types = tf.TensorSpec([None, None], tf.int32, name="token_type_ids")
        return serve_pairs.get_concrete_function(**spec, token_type_ids=types)
    if sentence is None or sentence.spec.include_prompt:
        return serve.get_concrete_function(**spec)
    counts = tf.TensorSpec([None], tf.int32, name="skipped")
    return serve_after_prompt.get_concrete_function(**spec, skipped=counts)


def _manifest(source: BertSource) -> BundleManifest:
    config = source.config
    outputs = {
        f"states_{index}": OutputSpec(kind="token", dim=config.dim, layer=str(index))
        for index in range(config.num_layers + 1)
    }
    if config.has_pooler:
        outputs["pooler"] = OutputSpec(kind="text", dim=config.dim)
    default_output = f"states_{config.num_layers}"
    inputs = {
        "input_ids": InputSpec(role="ids", dtype="int32"),
        "attention_mask": InputSpec(role="mask", dtype="int32"),
    }
    if config.takes_types:
        inputs["token_type_ids"] = InputSpec(role="types", dtype="int32")
    if source.sentence is not None:
        default_output = SENTENCE_OUTPUT
        outputs[default_output] = OutputSpec(kind="text", dim=source.sentence_dim)
        if not source.sentence.include_prompt:
            inputs["skipped"] = InputSpec(role="skipped", dtype="int32")
    head = source.head
    if head is not None:
        default_output = "logits"
        outputs["logits"] = OutputSpec(kind="class", dim=len(head.labels), per_token=head.per_token)
    return BundleManifest(
        name=source.name,
        task="embed" if head is None else "classify" if head.pair_truncation is None else "pairs",
        family=source.family.name,
        signature="serving_default",
        bfloat16_signature="serving_bfloat16",
        inputs=inputs,
        outputs=outputs,
        default_output=default_output,
        tokenizer=TokenizerSpec(kind="subwords", lowercase=source.lowercase, pad_id=config.pad_id),
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=source.normalize,
        prompts=source.prompts,
        default_prompt=source.default_prompt,
        labels=() if head is None else head.labels,
        multi_label=head is not None and head.multi_label,
        regression=head is not None and head.regression,
        scores="as_is" if head is None else head.scores,
        pair_truncation=None if head is None else head.pair_truncation,
        sentence=source.sentence,
        similarity=source.similarity,
        source=source.source,
        licence=source.licence,
    )

"""A small encoder whose products are written as different libraries write them, as a bundle of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, save_module
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.specs import InputSpec, OutputSpec, Pooling, SourceSpec, TokenizerSpec
from tests.support.models.tiny import tiny_tokenizer, tiny_vocabulary

# Keras 2; Keras 3; Keras' attention and Google's encoders; Google's first BERT.
Form = Literal["tensordot", "batch", "einsum", "flat"]
FORMS: tuple[Form, ...] = ("tensordot", "batch", "einsum", "flat")
HEADS = 2
LABELS = ("bad", "good", "neither")


def make_encoder(
    form: Form,
    *,
    num_layers: int = 1,
    dim: int = 64,
    inner_dim: int = 128,
    outlier: float = 1.0,
    vocab: int = 0,
) -> tuple[Any, Callable[..., dict[str, Any]]]:
    """Returns the module that owns the weights, and the function of token ids and mask.

    ``outlier``: how many times larger one channel of the states is; what products make of it is as large as
    before.
    """
    import tensorflow as tf

    random = np.random.default_rng(5)
    module = tf.Module()
    module.weights = []

    def weight(*shape: int, scale: float = 0.0) -> Any:
        scale = scale or 1 / np.sqrt(np.prod(shape[:-1]) if len(shape) == 2 else shape[0])
        module.weights.append(tf.Variable(random.normal(0, scale, shape).astype(np.float32)))
        return module.weights[-1]

    words = weight(vocab or len(tiny_vocabulary()), dim, scale=1.0)
    gamma = np.ones(dim, np.float32)
    gamma[3] = outlier
    layers = [_make_layer(form, weight, dim, inner_dim, gamma) for _ in range(num_layers)]
    pooler, classes = (weight(dim, dim), weight(dim, scale=0.1)), weight(dim, len(LABELS))

    def call(input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        states = _norm(tf.gather(words, input_ids)) * gamma
        bias = (1.0 - tf.cast(attention_mask, tf.float32))[:, tf.newaxis, tf.newaxis] * -1e4
        for layer in layers:
            states = layer(states, bias)
        pooled = tf.tanh(tf.matmul(states[:, 0], pooler[0]) + pooler[1])
        return {"states": states, "pooled": pooled, "logits": tf.matmul(pooled, classes)}

    return module, call


def _make_layer(form: Form, weight: Callable[..., Any], dim: int, inner_dim: int, gamma: np.ndarray) -> Any:
    import tensorflow as tf

    size = dim // HEADS
    heads = (HEADS, size) if form == "einsum" else (dim,)
    parts = [(weight(dim, *heads), weight(*heads, scale=0.1)) for _ in range(3)]
    out = (weight(*heads, dim), weight(dim, scale=0.1))
    inner, outer = ((weight(a, b), weight(b, scale=0.1)) for a, b in ((dim, inner_dim), (inner_dim, dim)))
    for kernel, _ in (*parts, inner):  # what enters through the large channel is no larger than the rest
        rows = kernel.numpy()
        rows[3] /= gamma[3]
        kernel.assign(rows)

    def layer(states: Any, bias: Any) -> Any:
        query, key, value = (_split(form, _dense(form, states, *part), size) for part in parts)
        scores = tf.einsum("aecd,abcd->acbe", key, query) / np.sqrt(size).astype(np.float32) + bias
        context = tf.einsum("acbe,aecd->abcd", tf.nn.softmax(scores), value)
        if form == "einsum":
            context = tf.einsum("abcd,cde->abe", context, out[0]) + out[1]
        else:
            flat = tf.reshape(context, [tf.shape(states)[0], -1, gamma.size])
            context = _dense(form, flat, *out)
        states = _norm(states + context) * gamma
        hidden = _gelu(form, _dense(form, states, *inner))
        return _norm(states + _dense(form, hidden, *outer)) * gamma

    return layer


def _dense(form: Form, states: Any, kernel: Any, bias: Any) -> Any:
    import tensorflow as tf

    if form == "tensordot":
        return tf.nn.bias_add(tf.tensordot(states, kernel, [[2], [0]]), bias)
    if form == "einsum":
        return tf.einsum("abc,cde->abde" if len(kernel.shape) == 3 else "abc,cd->abd", states, kernel) + bias
    if form == "batch":
        return tf.matmul(states, kernel) + bias
    flat = tf.reshape(states, [-1, kernel.shape[0]])
    shape = tf.concat([tf.shape(states)[:2], [kernel.shape[1]]], axis=0)
    return tf.reshape(tf.nn.bias_add(tf.matmul(flat, kernel), bias), shape)


def _split(form: Form, states: Any, size: int) -> Any:
    import tensorflow as tf

    return (
        states if form == "einsum" else tf.reshape(states, [*tf.unstack(tf.shape(states))[:2], HEADS, size])
    )


def _gelu(form: Form, x: Any) -> Any:
    import tensorflow as tf

    if form == "tensordot":
        return 0.5 * x * (1.0 + tf.math.erf(x / tf.cast(1.4142135623730951, x.dtype)))
    if form == "einsum":
        return x * (0.5 * (1.0 + tf.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * tf.pow(x, 3)))))
    return tf.nn.relu(x) if form == "flat" else tf.nn.gelu(x)


def _norm(x: Any) -> Any:
    import tensorflow as tf

    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-6)


def traced(call: Callable[..., dict[str, Any]]) -> Any:
    """Traces the function as a signature is."""
    import tensorflow as tf

    specs = {
        name: tf.TensorSpec([None, None], tf.int32, name=name) for name in ("input_ids", "attention_mask")
    }
    return tf.function(call, autograph=False).get_concrete_function(**specs)


def build_encoder_of_others(
    output: Path, form: Form = "tensordot", *, task: Literal["embed", "classify"] = "embed", **shape: Any
) -> ModelBundle:
    """Builds a bundle of it, as those of the family ``keras``."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    module, call = make_encoder(form, **shape)
    dim = shape.get("dim", 64)
    outputs = {
        "states": OutputSpec(kind="token", dim=dim, layer="0"),
        "pooled": OutputSpec(kind="text", dim=dim),
    }
    outputs["logits"] = OutputSpec(kind="class", dim=len(LABELS))
    manifest = BundleManifest(
        name=f"of-others-{form}",
        task=task,
        family="keras",
        inputs={
            "input_ids": InputSpec(role="ids", dtype="int32"),
            "attention_mask": InputSpec(role="mask", dtype="int32"),
        },
        outputs=outputs,
        default_output="states" if task == "embed" else "logits",
        tokenizer=TokenizerSpec(kind="subwords", lowercase=True),
        max_tokens=64,
        pooling=Pooling.MEAN,
        normalize=task == "embed",
        labels=LABELS if task == "classify" else (),
        scores="softmax" if task == "classify" else "as_is",
        source=SourceSpec(kind="keras", location="made here"),
        licence="Apache-2.0",
    )

    def write_files(staging: Path) -> None:
        (staging / LICENCE_NAME).write_text("Apache License, Version 2.0")
        (staging / TOKENIZER_FILE).parent.mkdir()
        (staging / TOKENIZER_FILE).write_text(tiny_tokenizer(tiny_vocabulary()).to_str())
        save_module(module, staging / SAVED_MODEL_DIR, {"serving_default": traced(call)})

    return assemble(output, manifest, write_files)

"""Toy modules in the forms that TF-Hub has, made by TensorFlow alone. Vectors come from the words' hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

BUCKETS = 64
DIM = 6
_MAX_IDS = 16
_TEXTS = tf.TensorSpec([None], tf.string, name="inputs")


def table(seed: int, rows: int = BUCKETS, dim: int = DIM) -> np.ndarray:
    """float32[rows, dim]."""
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


class Toy(tf.Module):  # type: ignore[misc]  # TensorFlow is not typed
    """A module with a table of vectors."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self.table = tf.Variable(table(seed))

    def words(self, texts: Any) -> tuple[Any, Any]:
        """Returns float32[texts, words, dim], padded with the vector of the empty word, and int64[texts]."""
        split = tf.strings.split(texts)
        ids = tf.strings.to_hash_bucket_fast(split.to_tensor(""), BUCKETS)
        return tf.gather(self.table, ids), split.row_lengths()

    def mean(self, texts: Any) -> Any:
        """The mean of the real words' vectors."""
        states, lengths = self.words(texts)
        mask = tf.sequence_mask(lengths, tf.shape(states)[1], tf.float32)[:, :, tf.newaxis]
        return tf.reduce_sum(states * mask, 1) / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]


def save_call(path: Path, module: Any, call: Any) -> Path:
    """Saves a module that is called with texts, and its first output as a signature that names nothing."""
    module.__call__ = tf.function(call, autograph=False)
    module.__call__.get_concrete_function(_TEXTS)

    def anonymous(inputs: Any) -> Any:
        return tf.nest.flatten(call(inputs))[0]

    tf.saved_model.save(module, str(path), tf.function(anonymous, input_signature=[_TEXTS], autograph=False))
    return path


def save_signatures(path: Path, module: Any, **functions: Any) -> Path:
    """Saves functions of texts as signatures."""
    made = {
        name: tf.function(f, autograph=False).get_concrete_function(_TEXTS) for name, f in functions.items()
    }
    tf.saved_model.save(module, str(path), signatures=made)
    return path


def save_named(path: Path) -> Path:
    """A call with named outputs beside an anonymous signature."""
    module = Toy()

    def call(inputs: Any) -> dict[str, Any]:
        states, lengths = module.words(inputs)
        return {
            "states": states,
            "sequence_len": lengths,
            "default": module.mean(inputs),
            "doubles": [tf.cast(module.mean(inputs) * 2, tf.float64)],
            "scores": tf.strings.length(inputs),
        }

    return save_call(path, module, call)


def save_sentence_encoder(path: Path, vocabulary: Path) -> Path:
    """Like a Universal Sentence Encoder: texts in, one tensor out; words are looked up in a file."""
    vocabulary.write_text("the\ncat\nsat\nwords\nmany\n")
    module = Toy(seed=2)
    initializer = tf.lookup.TextFileInitializer(
        str(vocabulary),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    module.lookup = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=8)

    def call(inputs: Any) -> Any:
        words = tf.strings.split(inputs)
        rows = tf.ragged.map_flat_values(
            lambda flat: tf.gather(module.table, module.lookup.lookup(flat)), words
        )
        return tf.math.l2_normalize(tf.reduce_sum(rows, axis=1), axis=1)

    return save_call(path, module, call)


def save_preprocess(path: Path) -> Path:
    """Like bert_en_uncased_preprocess: texts to ids, mask and types of one length."""
    module = tf.Module()

    def call(inputs: Any) -> dict[str, Any]:
        ids = tf.cast(tf.strings.to_hash_bucket_fast(tf.strings.split(inputs), BUCKETS - 3), tf.int32) + 3
        ids = ids[:, : _MAX_IDS - 2]
        edge = tf.ones_like(inputs, tf.int32)[:, tf.newaxis]
        ids = tf.concat([edge, ids, edge * 2], axis=1)
        return {
            "input_word_ids": ids.to_tensor(0, shape=[None, _MAX_IDS]),
            "input_mask": tf.ones_like(ids).to_tensor(0, shape=[None, _MAX_IDS]),
            "input_type_ids": tf.zeros_like(ids).to_tensor(0, shape=[None, _MAX_IDS]),
        }

    return save_call(path, module, call)


def save_encoder(path: Path, *, sees_mask: bool = True) -> Path:
    """Like bert_en_uncased: called with a dict and a switch for training; one layer of attention, twice."""
    module = Toy(seed=3)

    def layer(states: Any, mask: Any) -> Any:
        scores = tf.matmul(states, states, transpose_b=True)
        if sees_mask:
            scores += (tf.cast(mask, tf.float32)[:, tf.newaxis, :] - 1.0) * 1e9
        return states + tf.matmul(tf.nn.softmax(scores), states)

    def call(inputs: Any, training: bool = False) -> dict[str, Any]:
        states = [tf.gather(module.table, inputs["input_word_ids"] + inputs["input_type_ids"])]
        for _ in range(2):
            states.append(layer(states[-1], inputs["input_mask"]) * (0.0 if training else 1.0))
        return {
            "encoder_outputs": states[1:],
            "sequence_output": states[-1],
            "pooled_output": tf.tanh(states[-1][:, 0]),
        }

    names = ("input_word_ids", "input_mask", "input_type_ids")
    spec = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}
    module.__call__ = tf.function(call, autograph=False)
    for training in (True, False):
        module.__call__.get_concrete_function(spec, training)
    tf.saved_model.save(module, str(path), signatures={})
    return path

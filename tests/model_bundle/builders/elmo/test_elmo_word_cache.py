"""The cache of word vectors changes speed and nothing else."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.graphs.elmo import Elmo, WordCache
from model_bundle.builders.graphs.elmo_options import BilmOptions
from model_bundle.builders.graphs.elmo_signatures import default_signature
from tests.support.models.elmo_reference import random_model

OPTIONS = BilmOptions(4, ((1, 3), (3, 5)), "relu", 1, 12, 7, 6, 1, True, 0.7, 0.4)
FILE = {
    "char_cnn": {"embedding": {"dim": 4}, "filters": [[1, 3], [3, 5]], "n_highway": 1},
    "lstm": {"projection_dim": 6, "dim": 7, "n_layers": 1},
}


class Spelling:
    """Returns a word's length and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []

    def __call__(self, words: tf.Tensor) -> tf.Tensor:
        self.asked.append(words.numpy().tolist())
        return tf.cast(tf.strings.length(words), tf.float32)[:, tf.newaxis] * [1.0, 2.0]


def test_only_new_words_are_computed() -> None:
    cache, spelling = WordCache(2, 100), Spelling()
    for words in (["a", "bcd", ""], ["bcd", "ef", "a"], ["ef", "a"]):
        found = cache.look_up(tf.constant(words), spelling).numpy()
        np.testing.assert_array_equal(found, [[len(word), 2 * len(word)] for word in words])
    assert spelling.asked == [[b"a", b"bcd", b""], [b"ef"]]


def test_a_full_cache_keeps_what_it_has_and_stays_right() -> None:
    cache, spelling = WordCache(2, 3), Spelling()
    for words in (["a", "b"], ["c", "dd", "eee"], ["eee", "b", "c", "dd"]):
        found = cache.look_up(tf.constant(words), spelling).numpy()
        np.testing.assert_array_equal(found[:, 0], [len(word) for word in words])
    assert spelling.asked == [[b"a", b"b"], [b"c", b"dd", b"eee"], [b"eee", b"dd"]]


@pytest.mark.slow
def test_models_of_one_process_do_not_share_their_words(tmp_path: Path) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    for seed, path in enumerate(paths):
        elmo = Elmo(OPTIONS, random_model(FILE, seed), "random")
        tf.saved_model.save(elmo, str(path), signatures={"default": default_signature(elmo, tf.float32)})
    del elmo
    gc.collect()
    # The same model loaded twice counts as two.
    models = [tf.saved_model.load(str(path)) for path in (*paths, paths[0])]
    text = tf.constant(["some words here"])
    vectors = [model.signatures["default"](text)["word_emb"].numpy() for model in models]
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01
    np.testing.assert_array_equal(vectors[0], vectors[2])
    for model, expected in zip(models, vectors, strict=True):
        np.testing.assert_array_equal(model.signatures["default"](text)["word_emb"], expected)

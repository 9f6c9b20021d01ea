"""Trained network to the weights that are written: whitened words, and the mix of the layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.batches import STEPS, make_batch
from recipes.elmo_mini.distil import MAX_WORDS
from recipes.elmo_mini.lessons import Lessons
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.shape import SEED
from recipes.elmo_mini.spelling import spell_both
from recipes.elmo_mini.whitening import choose_mix, whitened

NUM_TEXTS, NUM_MIXED = 6_000, 384
_CHUNK_WORDS = 1024


def finish(network: Network, lessons: Lessons) -> tuple[dict[str, np.ndarray], tuple[float, float, float]]:
    """Gives the final weights by the names of ``weight_shapes``, and the share of each layer."""
    order = np.random.default_rng(SEED).permutation(len(lessons.taught))
    chosen = [index for index in order[:NUM_TEXTS] if len(lessons.taught[index])]
    running = np.concatenate([lessons.taught[index] for index in chosen])
    weights = whitened(network.weights, _word_vectors(network, lessons, running))
    # Longer texts were not among the lessons: on those, layers would be praised for what they remember.
    unseen = [index for index in chosen if len(lessons.taught[index]) > MAX_WORDS]
    mixed = np.array(unseen[:NUM_MIXED])
    means = _layer_means(Network(network.shape, weights), lessons, mixed)
    return weights, choose_mix(means, lessons.vectors[mixed].astype(np.float32))


def _word_vectors(network: Network, lessons: Lessons, numbers: np.ndarray) -> np.ndarray:
    sizes = [tf.TensorSpec([None, None], tf.int32)]
    spell = tf.function(network.spell, input_signature=sizes, autograph=False)
    spelling, places = lessons.lexicon.spelling(numbers)
    chunks = [
        spell(ids[start : start + _CHUNK_WORDS]).numpy()
        for ids in (spelling.short, spelling.long)
        for start in range(0, len(ids), _CHUNK_WORDS)
    ]
    return np.asarray(np.concatenate(chunks)[places])


def _layer_means(network: Network, lessons: Lessons, which: np.ndarray) -> np.ndarray:
    """float32[layers, texts, 2 * projection_dim]."""
    batch = make_batch(lessons.taught, which, STEPS[-1], lessons.lexicon)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def run(short: Any, long: Any, places: Any) -> Any:
        return tf.stack(network.run(tf.gather(spell_both(network, short, long), places)))

    fed = (batch.spelling.short, batch.spelling.long, batch.places)
    layers = run(*map(tf.constant, fed)).numpy()
    real = batch.real[np.newaxis, np.newaxis, :, :, np.newaxis]
    means = (layers * real).sum(axis=2) / real.sum(axis=2)
    return np.concatenate([means[:, 0], means[:, 1]], axis=-1)

"""Turns the trained network into final weights: whitening of word vectors, and the layer mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.batches import MAX_WORDS, STEPS, make_batch
from recipes.elmo_mini.lessons import Lessons
from recipes.elmo_mini.mixing import choose, even
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.spelling import spell_all
from recipes.elmo_mini.whitening import stretched, whitened

NUM_TEXTS = 6_000
_SHORTEST = 3


def whiten(network: Network, lessons: Lessons) -> np.ndarray:
    """Whitens the network's word vectors in place and returns the scales of ``whitened``."""
    chosen = lessons.learned(1, MAX_WORDS)[:NUM_TEXTS]
    running = np.concatenate([lessons.taught[index] for index in chosen])
    weights, scales = whitened(network.weights, spell_all(network.spell, lessons.lexicon, running))
    for name, value in weights.items():
        network.assign(name, value)
    return scales


def finish(
    network: Network, lessons: Lessons, scales: np.ndarray
) -> tuple[dict[str, np.ndarray], tuple[float, ...], dict[str, float]]:
    """Returns the final weights by the names of ``weight_shapes``, the layer mix, and the chosen settings."""
    held = lessons.held(_SHORTEST, MAX_WORDS)
    teacher = lessons.vectors[held].astype(np.float32)
    power, shares, likeness = choose(_layer_means(network, lessons, held), scales, teacher)
    weights = stretched(network.weights, even(scales, power))
    return weights, shares, {"power": power, "held_texts": float(len(held)), "likeness": likeness}


def _layer_means(network: Network, lessons: Lessons, which: np.ndarray) -> np.ndarray:
    """Returns text vectors, float32[layers, texts, 2 * projection_dim]."""
    batch = make_batch(lessons.taught, which, STEPS[-1], lessons.lexicon)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def run(words: Any) -> Any:
        return tf.stack(network.run(words))

    layers = run(tf.constant(spell_all(network.spell, lessons.lexicon, batch.numbers))).numpy()
    real = batch.real[np.newaxis, np.newaxis, :, :, np.newaxis]
    means = (layers * real).sum(axis=2) / real.sum(axis=2)
    return np.concatenate([means[:, 0], means[:, 1]], axis=-1)

"""Last stage: the mean of a text's mixed layers to the teacher's vector of the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.batches import make_batch, plan
from recipes.elmo_mini.keeping import Stage
from recipes.elmo_mini.lessons import Lessons
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.shape import SEED
from recipes.elmo_mini.spelling import WordFeed, spell_both, spelling_loss

# Longer texts cost most of the time, and teach little that short ones do not.
MAX_WORDS = 16
CELLS = 2_304
EPOCHS = 1
RATE = 2e-3
PAIR_WEIGHT = 20.0
SPELLED_WORDS, SPELLING_WEIGHT = 96, 0.1


def distil(network: Network, lessons: Lessons, folder: Path) -> None:
    """Trains everything, the mix too."""
    axes = tf.constant(lessons.axes)
    lengths = np.array([len(words) for words in lessons.taught])
    short = np.flatnonzero((lengths > 0) & (lengths <= MAX_WORDS))
    batches = [
        (steps, short[which])
        for epoch in range(EPOCHS)
        for steps, which in plan(lengths[short], CELLS, np.random.default_rng((SEED, epoch)))
    ]
    word_feed = WordFeed(lessons, SPELLED_WORDS)

    def feed(step: int) -> tuple[Any, ...]:
        steps, which = batches[step]
        batch = make_batch(lessons.taught, which, steps, lessons.lexicon)
        teacher = lessons.vectors[batch.texts].astype(np.float32)
        arrays = (batch.spelling.short, batch.spelling.long, batch.places, batch.real, teacher)
        return (*map(tf.constant, arrays), tuple(map(tf.constant, word_feed(step))))

    def loss(short: Any, long: Any, places: Any, real: Any, teacher: Any, words: Any) -> tuple[Any, ...]:
        layers = network.run(tf.gather(spell_both(network, short, long), places))
        near, alike = distances(network.mean(layers, real), teacher, axes)
        spelling = spelling_loss(spell_both(network, *words[:2]), words[2])
        return near + PAIR_WEIGHT * alike + SPELLING_WEIGHT * spelling, near, alike, spelling

    variables = [*network.of(""), network.mix]
    Stage("distillation", variables, RATE, loss, network, folder).run(len(batches), feed)


def distances(vectors: Any, teacher: Any, axes: Any) -> tuple[Any, Any]:
    """How far vectors are from the teacher's, and their cosines with each other from its cosines.

    Args:
        vectors: float32[texts, 2 * projection_dim].
        teacher: float32[texts, 384], of length 1.
        axes: of ``joint_axes``.
    """
    student = tf.math.l2_normalize(vectors, axis=-1)
    target = tf.math.l2_normalize(tf.matmul(teacher, axes), axis=-1)
    near = tf.reduce_mean(1.0 - tf.reduce_sum(student * target, axis=-1))
    own = tf.matmul(student, student, transpose_b=True)
    wanted = tf.matmul(teacher, teacher, transpose_b=True)
    return near, tf.reduce_mean(tf.square(own - wanted))

"""First stage: the characters of a word to what the teacher says of the word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.keeping import Stage
from recipes.elmo_mini.lessons import Lessons
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.shape import SEED

BATCH_WORDS = 512
NUM_STEPS = 320
RATE = 4e-3


def spell_both(network: Network, short: Any, long: Any) -> Any:
    """Vectors of the short words, then of the others: float32[words, projection_dim]."""
    return tf.concat([network.spell(short), network.spell(long)], axis=0)


def spelling_loss(found: Any, wanted: Any) -> Any:
    """The squared distance, as a part of what it is for no vector at all."""
    return tf.reduce_sum(tf.square(found - wanted)) / tf.reduce_sum(tf.square(wanted))


class WordFeed:
    """Words of the vocabulary in batches, the more often the more frequent they are in the texts."""

    def __init__(self, lessons: Lessons, size: int) -> None:
        self._lessons, self._size = lessons, size
        self._shares = lessons.word_shares

    def __call__(self, step: int) -> tuple[Any, ...]:
        """Gives short and long spellings, and float32[words, projection_dim] of the teacher."""
        random = np.random.default_rng((SEED, step))
        chosen = random.choice(len(self._shares), self._size, replace=False, p=self._shares)
        spelling, places = self._lessons.lexicon.spelling(self._lessons.vocabulary[chosen])
        wanted = np.zeros((len(spelling.short) + len(spelling.long), self._lessons.word_vectors.shape[1]))
        wanted[places] = self._lessons.word_vectors[chosen]
        return spelling.short, spelling.long, wanted.astype(np.float32)


def train_spelling(network: Network, lessons: Lessons, folder: Path) -> None:
    """Trains the character convolution, the highway and the projection."""
    feed = WordFeed(lessons, BATCH_WORDS)

    def loss(short: Any, long: Any, wanted: Any) -> tuple[Any, ...]:
        return (spelling_loss(spell_both(network, short, long), wanted),)

    variables = network.of("char_embed", "CNN")
    stage = Stage("spelling", variables, RATE, loss, network, folder)
    stage.run(NUM_STEPS, lambda step: tuple(map(tf.constant, feed(step))))

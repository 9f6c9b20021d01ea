"""Trains the character encoder to reproduce the teacher's vectors of single words."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.lessons import Lessons
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.shape import SEED
from recipes.elmo_mini.words import Lexicon

_CHUNK_WORDS = 1024


def spell_both(network: Network, short: Any, long: Any) -> Any:
    """Returns the vectors of the short words, then of the others: float32[words, projection_dim]."""
    return tf.concat([network.spell(short), network.spell(long)], axis=0)


def spell_all(spell: Any, lexicon: Lexicon, numbers: np.ndarray) -> np.ndarray:
    """Encodes words in chunks: float32[..., dim] for indexes of any shape.

    Args:
        spell: ``Network.spell`` or ``Network.highway``.
        lexicon: knows the words.
        numbers: of the words.
    """
    traced = tf.function(spell, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    spelling, places = lexicon.spelling(numbers)
    chunks = [
        traced(ids[start : start + _CHUNK_WORDS]).numpy()
        for ids in (spelling.short, spelling.long)
        for start in range(0, len(ids), _CHUNK_WORDS)
    ]
    return np.asarray(np.concatenate(chunks)[places])


def spelling_loss(found: Any, wanted: Any) -> Any:
    """Returns the squared distance relative to that of a zero vector."""
    return tf.reduce_sum(tf.square(found - wanted)) / tf.reduce_sum(tf.square(wanted))


class WordFeed:
    """Batches of words, sampled by their frequency in the texts."""

    def __init__(self, lessons: Lessons, size: int) -> None:
        self._lessons, self._size = lessons, size
        self._shares = lessons.word_shares

    def __call__(self, step: int) -> tuple[Any, ...]:
        """Returns short and long spellings, and the teacher's vectors float32[words, projection_dim]."""
        random = np.random.default_rng((SEED, step))
        chosen = random.choice(len(self._shares), self._size, replace=False, p=self._shares)
        spelling, places = self._lessons.lexicon.spelling(self._lessons.vocabulary[chosen])
        wanted = np.zeros((len(spelling.short) + len(spelling.long), self._lessons.word_vectors.shape[1]))
        wanted[places] = self._lessons.word_vectors[chosen]
        return spelling.short, spelling.long, wanted.astype(np.float32)

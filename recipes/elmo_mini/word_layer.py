"""First stage: trains the mean of a text's word vectors to match the teacher's vector of the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.lessons import Lessons, text_means
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.shape import SEED
from recipes.elmo_mini.spelling import WordFeed, spell_all, spell_both, spelling_loss
from recipes.elmo_mini.stage import Stage

# Ridge penalty relative to the mean variance. Results are the same between 1e-3 and 1e-2.
_RIDGE = 1e-3
NUM_FITTED = 12_000
# Longer texts cost most of the time and add little to short ones.
MIN_WORDS, MAX_WORDS = 2, 24
# Texts per batch; each comes with its nearest neighbour by the teacher's vectors.
BATCH_PAIRS = 128
NUM_STEPS = 900
RATE = 4e-4
ALIKE_WEIGHT, PARTNER_WEIGHT = 20.0, 10.0
SPELLED_WORDS, SPELLING_WEIGHT = 128, 0.1
# Number of texts among which nearest neighbours are searched.
_BLOCK = 8_192


def fit_projection(network: Network, lessons: Lessons) -> None:
    """Fits the projection from mean highway outputs to the teacher's text vectors by ridge regression."""
    chosen = lessons.learned(MIN_WORDS, MAX_WORDS)[:NUM_FITTED]
    texts = [lessons.taught[index] for index in chosen]
    running = spell_all(network.highway, lessons.lexicon, np.concatenate(texts)).astype(np.float64)
    mean = running.mean(axis=0)
    features = text_means(running - mean, texts)
    wanted = lessons.vectors[chosen].astype(np.float64)
    wanted = (wanted - wanted.mean(axis=0)) @ lessons.common_axes
    square = features.T @ features
    square += _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    projection = np.linalg.solve(square, features.T @ wanted)
    # Scaled to fit the teacher's word vectors best, so that both objectives agree.
    words = (spell_all(network.highway, lessons.lexicon, lessons.vocabulary) - mean) @ projection
    projection *= np.sum(words * lessons.word_vectors) / np.sum(words * words)
    network.assign("CNN_proj/W_proj", projection)
    network.assign("CNN_proj/b_proj", -mean @ projection)


def train_words(network: Network, lessons: Lessons, folder: Path) -> None:
    """Trains the character convolution, the highway and the projection, without LSTMs."""
    learned = lessons.learned(MIN_WORDS, MAX_WORDS)
    partner = nearest(lessons.vectors[learned])
    axes = tf.constant(lessons.common_axes)
    word_feed = WordFeed(lessons, SPELLED_WORDS)

    def feed(step: int) -> tuple[Any, ...]:
        first = np.random.default_rng((SEED, 1, step)).choice(len(learned), BATCH_PAIRS, replace=False)
        which = learned[np.concatenate([first, partner[first]])]
        texts = [lessons.taught[index] for index in which]
        spelling, places = lessons.lexicon.spelling(np.concatenate(texts))
        segments = np.repeat(np.arange(len(texts), dtype=np.int32), [len(words) for words in texts])
        teacher = lessons.vectors[which].astype(np.float32)
        arrays = (spelling.short, spelling.long, places, segments, teacher)
        return (*map(tf.constant, arrays), tuple(map(tf.constant, word_feed(step))))

    def loss(short: Any, long: Any, places: Any, segments: Any, teacher: Any, words: Any) -> tuple[Any, ...]:
        running = tf.gather(spell_both(network, short, long), places)
        # The mean of all words is removed by whitening.
        common = tf.reduce_mean(running, axis=0)
        means = tf.math.segment_mean(running - common, segments)
        near, alike, partners = distances(means, teacher, axes)
        spelling = spelling_loss(spell_both(network, *words[:2]) - common, words[2])
        total = near + ALIKE_WEIGHT * alike + PARTNER_WEIGHT * partners + SPELLING_WEIGHT * spelling
        return total, near, alike, partners, spelling

    Stage("words", network.of("char_embed", "CNN"), RATE, loss, network, folder).run(NUM_STEPS, feed)


def distances(vectors: Any, teacher: Any, axes: Any) -> tuple[Any, Any, Any]:
    """Returns the loss of vectors and of their cosines against the teacher's: of all pairs, and of partners.

    Args:
        vectors: float32[2 * pairs, projection_dim], second texts behind the first ones.
        teacher: float32[2 * pairs, 384], of length 1.
        axes: float32[384, projection_dim].
    """
    student = tf.math.l2_normalize(vectors, axis=-1)
    target = tf.math.l2_normalize(tf.matmul(teacher, axes), axis=-1)
    near = tf.reduce_mean(1.0 - tf.reduce_sum(student * target, axis=-1))
    wrong = tf.square(
        tf.matmul(student, student, transpose_b=True) - tf.matmul(teacher, teacher, transpose_b=True)
    )
    half = tf.shape(wrong)[0] // 2
    return near, tf.reduce_mean(wrong), tf.reduce_mean(tf.linalg.diag_part(wrong[:half, half:]))


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Returns int64[texts], for each text its nearest neighbour within a random block.

    Args:
        vectors: of length 1.
    """
    order = np.random.default_rng(SEED).permutation(len(vectors))
    found = np.empty(len(vectors), np.int64)
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        some = vectors[block].astype(np.float32)
        cosines = some @ some.T
        np.fill_diagonal(cosines, -2.0)
        found[block] = block[cosines.argmax(axis=1)]
    return found

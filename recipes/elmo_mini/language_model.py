"""Second stage: a bidirectional language model, which predicts the next and the previous word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.elmo_mini.batches import Batch, make_batch, plan
from recipes.elmo_mini.lessons import Lessons
from recipes.elmo_mini.network import Network
from recipes.elmo_mini.shape import SEED
from recipes.elmo_mini.spelling import spell_all
from recipes.elmo_mini.stage import Stage

# Words that occur less often are read but not predicted.
MIN_COUNT = 4
NUM_SAMPLED = 768
CELLS = 1_872
NUM_STEPS = 800
RATE = 4e-3
# Initially, predicted words hardly differ except in frequency.
_FIRST_KERNEL = 0.02


class WordPredictor(tf.Module):
    """The predicted words, most frequent first, and the output layer, which is not part of the model.

    Args:
        lessons: whose sentences count.
        network: part of a checkpoint with it.
    """

    def __init__(self, lessons: Lessons, network: Network) -> None:
        super().__init__(name="word_predictor")
        lexicon = lessons.lexicon
        counts = Counter(int(number) for words in lessons.sentences for number in words)
        counts[lexicon.begin] = counts[lexicon.end] = len(lessons.sentences)
        common = [number for number, count in counts.most_common() if count >= MIN_COUNT]
        self.class_of = np.full(len(lexicon), -1, np.int32)
        self.class_of[common] = np.arange(len(common))
        frequent = np.array([counts[number] for number in common], np.float64)
        self.shares = frequent / frequent.sum()
        self.network = network
        random = np.random.default_rng(SEED)
        dim = network.shape.projection_dim
        kernel = random.normal(0, _FIRST_KERNEL, (len(common), dim))
        self.kernel = tf.Variable(kernel.astype(np.float32))
        self.bias = tf.Variable(np.log(self.shares).astype(np.float32))

    def asked(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Returns which outputs, flat over directions, steps and texts, predict a word, and its class."""
        classes = np.full(batch.numbers.shape, -1, np.int32)
        classes[:, :-1] = self.class_of[batch.numbers[:, 1:]]
        # The last word is followed by a boundary, which nothing follows.
        has_next = np.zeros(batch.real.shape, bool)
        has_next[:-1] = (batch.real[:-1] > 0) | (batch.real[1:] > 0)
        classes[:, ~has_next] = -1
        where = np.flatnonzero(classes >= 0)
        return where.astype(np.int32), classes.ravel()[where]

    def sampled_loss(self, outputs: Any, classes: Any, sampled: Any) -> Any:
        """Returns the cross entropy of the correct word among sampled ones.

        Source: Jean et al., arXiv:1412.2007; words are drawn as often as they occur, to the power 0.75.
        """
        drawn = self._drawn()
        right = tf.reduce_sum(outputs * tf.gather(self.kernel, classes), axis=-1)
        right += tf.gather(self.bias - drawn, classes)
        others = tf.matmul(outputs, tf.gather(self.kernel, sampled), transpose_b=True)
        others += tf.gather(self.bias - drawn, sampled)
        others = tf.where(classes[:, tf.newaxis] == sampled, -1e9, others)
        logits = tf.concat([right[:, tf.newaxis], others], axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - right)

    def full_loss(self, outputs: Any, classes: Any) -> Any:
        """Returns the cross entropy over all predicted words, summed."""
        logits = tf.matmul(outputs, self.kernel, transpose_b=True) + self.bias
        return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))

    def sample(self, step: int) -> np.ndarray:
        """Draws int32[NUM_SAMPLED] distinct words."""
        random = np.random.default_rng((SEED, step))
        return random.choice(len(self.shares), NUM_SAMPLED, replace=False, p=self._powers()).astype(np.int32)

    def _powers(self) -> np.ndarray:
        powers = self.shares**0.75
        return np.asarray(powers / powers.sum())

    def _drawn(self) -> Any:
        return tf.constant(np.log(NUM_SAMPLED * self._powers()), tf.float32)


def top_outputs(network: Network, words: Any, numbers: Any, where: Any) -> Any:
    """Returns the last layer at the given positions, float32[places, projection_dim]."""
    last = network.run(tf.gather(words, numbers))[-1]
    return tf.gather(tf.reshape(last, [-1, network.shape.projection_dim]), where)


def train_language_model(network: Network, lessons: Lessons, folder: Path) -> dict[str, float]:
    """Trains the LSTMs and returns the perplexity on held-out sentences.

    Words stay as they are: they are spelled once, before the first step.
    """
    predictor = WordPredictor(lessons, network)
    words = tf.constant(spell_all(network.spell, lessons.lexicon, np.arange(len(lessons.lexicon))))
    batches = _batches(np.array([len(sentence) for sentence in lessons.sentences]))

    def feed(step: int) -> tuple[Any, ...]:
        steps, which = batches[step]
        batch = make_batch(lessons.sentences, which, steps, lessons.lexicon)
        return tuple(map(tf.constant, (batch.numbers, *predictor.asked(batch), predictor.sample(step))))

    def loss(numbers: Any, where: Any, classes: Any, sampled: Any) -> tuple[Any, ...]:
        outputs = top_outputs(network, words, numbers, where)
        return (predictor.sampled_loss(outputs, classes, sampled),)

    variables = [*network.of("RNN"), predictor.kernel, predictor.bias]
    Stage("language_model", variables, RATE, loss, predictor, folder).run(len(batches), feed)
    return _perplexities(predictor, lessons, words)


def _batches(lengths: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns one batch per step; every sentence occurs once before any repeats."""
    found: list[tuple[int, np.ndarray]] = []
    epoch = 0
    while len(found) < NUM_STEPS:
        found += plan(lengths, CELLS, np.random.default_rng((SEED, epoch)))
        epoch += 1
    return found[:NUM_STEPS]


def _perplexities(predictor: WordPredictor, lessons: Lessons, words: Any) -> dict[str, float]:
    """Returns the perplexity of the model and that of a unigram model."""
    lengths = np.array([len(sentence) for sentence in lessons.tested])
    total, unigram, count = 0.0, 0.0, 0
    for steps, which in plan(lengths, CELLS, np.random.default_rng(SEED)):
        batch = make_batch(lessons.tested, which, steps, lessons.lexicon)
        where, classes = predictor.asked(batch)
        outputs = top_outputs(predictor.network, words, batch.numbers, where)
        total += float(predictor.full_loss(outputs, classes))
        unigram -= float(np.log(predictor.shares[classes]).sum())
        count += len(classes)
    return {
        "perplexity": float(np.exp(total / count)),
        "unigram_perplexity": float(np.exp(unigram / count)),
        "predicted_words": float(len(predictor.shares)),
        "asked": float(count),
    }

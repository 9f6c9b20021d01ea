"""Trains the small encoder to reproduce the teacher's vectors, on the graph that ships in the bundle."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.builders.graphs.bert_config import BertConfig
from recipes.bert_mini.lessons import Lessons, Start

BATCH_TEXTS = 256
# A batch is encoded in slices of similar length.
SLICE_TEXTS = 64
EPOCHS = 4
RATE, TABLE_RATE = 1.5e-3, 2e-3
WARM_UP = 0.05
PAIR_WEIGHT = 20.0
TABLE = "embeddings/word"


class TrainableEncoder(BertEncoder):
    """The graph with a differentiable layer normalisation of equal results."""

    def _norm(self, name: str, flat: Any, dtype: Any) -> Any:  # noqa: ARG002  # training is in float32
        mean, variance = tf.nn.moments(flat, axes=[-1], keepdims=True)
        gamma, beta = self._variables[f"{name}/gamma"], self._variables[f"{name}/beta"]
        return tf.nn.batch_normalization(flat, mean, variance, beta, gamma, self._config.norm_epsilon)

    @property
    def table(self) -> Any:
        """The token embeddings, a variable."""
        return self._variables[TABLE]

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the weights by the names of ``weight_shapes``."""
        found = {}
        for name, variable in self._variables.items():
            value = variable.numpy()
            if "/qkv/" in name:
                for part, array in zip(("query", "key", "value"), np.split(value, 3, axis=-1), strict=True):
                    found[name.replace("qkv", part)] = np.ascontiguousarray(array)
            else:
                found[name] = value
        return found


class Trainer:
    """Trains on the lessons, saves each epoch to a folder and resumes from there.

    Args:
        config: the encoder's shape.
        start: where to begin.
        lessons: what to learn.
        folder: where checkpoints are kept.
        seed: decides the order of the lessons.
        epochs: how often.
        rates: peak learning rates of the layers and of the token embeddings.
    """

    def __init__(
        self,
        config: BertConfig,
        start: Start,
        lessons: Lessons,
        folder: Path,
        seed: int,
        epochs: int = EPOCHS,
        rates: tuple[float, float] | None = None,
    ) -> None:
        import keras

        self.encoder = TrainableEncoder(config, start.weights, "the recipe")
        self._lessons, self._seed, self._epochs = lessons, seed, epochs
        self._axes = tf.constant(start.axes)
        self._rates = rates or (RATE, TABLE_RATE)
        self._optimizers = [
            keras.optimizers.Adam(self._rates[0], beta_2=0.98, global_clipnorm=1.0),
            keras.optimizers.Adam(self._rates[1], beta_2=0.98),
        ]
        self._groups = self._variables()
        for optimizer, variables in zip(self._optimizers, self._groups, strict=True):
            optimizer.build(variables)
        self._epoch = tf.Variable(0, dtype=tf.int64)
        kept = tf.train.Checkpoint(
            encoder=self.encoder, layers=self._optimizers[0], table=self._optimizers[1], epoch=self._epoch
        )
        self._manager = tf.train.CheckpointManager(kept, str(folder), max_to_keep=2)
        if self._manager.latest_checkpoint:
            kept.restore(self._manager.latest_checkpoint).assert_consumed()
        self._step = tf.function(self._loss_step, reduce_retracing=True, autograph=False)

    def run(self, after_epoch: Callable[[Trainer], None] | None = None) -> dict[str, np.ndarray]:
        """Runs the remaining epochs and returns the weights."""
        while int(self._epoch) < self._epochs:
            self._run_epoch(int(self._epoch))
            self._epoch.assign_add(1)
            self._manager.save()
            if after_epoch is not None:
                after_epoch(self)
        return self.encoder.weights()

    def _variables(self) -> list[list[Any]]:
        table = self.encoder.table
        rest = [variable for variable in self.encoder.trainable_variables if variable is not table]
        return [rest, [table]]

    def _run_epoch(self, epoch: int) -> None:
        started = time.monotonic()
        batches = list(self._batches(epoch))
        losses = []
        for number, places in enumerate(batches):
            share = _share((epoch + number / len(batches)) / self._epochs)
            for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
                optimizer.learning_rate.assign(rate * share)
            slices, vectors = self._fed(places)
            losses.append([float(loss) for loss in self._step(slices, vectors)])
            if number % 20 == 0 or number == len(batches) - 1:
                near, alike = np.mean(losses[-20:], axis=0)
                print(
                    f"epoch {epoch + 1} of {self._epochs}, batch {number + 1} of {len(batches)}: "
                    f"1 - cosine {near:.4f}, pairs {alike:.5f}, {time.monotonic() - started:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )

    def _batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Returns groups in random order, in batches that are sorted by length."""
        groups = self._groups_in(epoch)
        order = np.random.default_rng((self._seed, epoch)).permutation(len(groups))
        places = np.array([place for index in order for place in groups[index]])
        lengths = np.array([len(tokens) for tokens in self._lessons.tokens])
        for start in range(0, len(places) - BATCH_TEXTS + 1, BATCH_TEXTS):
            batch = places[start : start + BATCH_TEXTS]
            yield batch[np.argsort(lengths[batch], kind="stable")]

    def _groups_in(self, epoch: int) -> list[list[int]]:  # noqa: ARG002  # for those whose groups change
        return self._lessons.groups

    def _fed(self, places: np.ndarray) -> tuple[list[tuple[Any, Any]], Any]:
        slices = []
        for start in range(0, len(places), SLICE_TEXTS):
            tokens = [self._lessons.tokens[place] for place in places[start : start + SLICE_TEXTS]]
            slices.append(padded(tokens))
        return slices, tf.constant(self._lessons.vectors[places].astype(np.float32))

    def _loss_step(self, slices: Any, teacher: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            parts = [mean_states(self.encoder, ids, mask) for ids, mask in slices]
            student = tf.math.l2_normalize(tf.concat(parts, axis=0), axis=-1)
            target = tf.math.l2_normalize(tf.matmul(teacher, self._axes), axis=-1)
            near = tf.reduce_mean(1.0 - tf.reduce_sum(student * target, axis=-1))
            own = tf.matmul(student, student, transpose_b=True)
            wanted = tf.matmul(teacher, teacher, transpose_b=True)
            alike = tf.reduce_mean(tf.square(own - wanted))
            loss = near + PAIR_WEIGHT * alike
        variables = [variable for group in self._groups for variable in group]
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]
        split = len(self._groups[0])
        self._optimizers[0].apply(gradients[:split], self._groups[0])
        self._optimizers[1].apply(gradients[split:], self._groups[1])
        return near, alike


def mean_states(encoder: BertEncoder, ids: Any, mask: Any) -> Any:
    """Returns the vector of each text, the mean of its last states."""
    states = encoder.encode(ids, mask)[-1]
    real = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
    return tf.reduce_sum(states * real, axis=1) / tf.reduce_sum(real, axis=1)


def padded(tokens: list[list[int]]) -> tuple[Any, Any]:
    """Returns ids and mask, int32[texts, tokens]."""
    longest = max(map(len, tokens))
    ids = np.zeros((len(tokens), longest), np.int32)
    mask = np.zeros_like(ids)
    for row, text in enumerate(tokens):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return tf.constant(ids), tf.constant(mask)


def _share(done: float) -> float:
    """Returns the share of the peak learning rate: a linear warm-up, then a cosine decay to 0."""
    if done < WARM_UP:
        return done / WARM_UP
    return float(0.5 + 0.5 * np.cos(np.pi * (done - WARM_UP) / (1.0 - WARM_UP)))

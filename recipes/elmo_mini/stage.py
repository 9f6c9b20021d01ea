"""A training stage: steps in a fixed order, with checkpoints from which it resumes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

WARM_UP = 0.05
KEEP_EVERY = 50
SAY_EVERY = 20


class Stage:
    """Runs Adam over all steps of a stage, with warm-up and cosine decay of the learning rate.

    Args:
        name: of the stage; its checkpoints have it.
        variables: what is trained.
        rate: the highest rate.
        loss: gives the loss and what it is made of.
        kept: what else is part of a checkpoint.
        folder: where checkpoints are.
    """

    def __init__(
        self,
        name: str,
        variables: Sequence[tf.Variable],
        rate: float,
        loss: Callable[..., tuple[Any, ...]],
        kept: tf.Module,
        folder: Path,
    ) -> None:
        import keras

        self._name, self._variables, self._rate, self._loss = name, list(variables), rate, loss
        self._optimizer = keras.optimizers.Adam(rate, beta_2=0.98, global_clipnorm=1.0)
        self._optimizer.build(self._variables)
        self._done = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(model=kept, optimizer=self._optimizer, done=self._done)
        self._manager = tf.train.CheckpointManager(checkpoint, str(folder / name), max_to_keep=1)
        if self._manager.latest_checkpoint:
            checkpoint.restore(self._manager.latest_checkpoint).assert_consumed()
        self._step: Any = None

    def run(self, num_steps: int, feed: Callable[[int], tuple[Any, ...]]) -> None:
        """Runs the remaining steps; ``feed`` returns the arguments of ``loss`` for a step number."""
        started, losses = time.monotonic(), []
        while (step := int(self._done)) < num_steps:
            self._optimizer.learning_rate.assign(self._rate * share(step / num_steps))
            losses.append([float(loss) for loss in self._traced(feed(step))])
            self._done.assign_add(1)
            if step % SAY_EVERY == 0 or step == num_steps - 1:
                numbers = ", ".join(f"{value:.4f}" for value in np.mean(losses[-SAY_EVERY:], axis=0))
                told = f"{self._name}: step {step + 1} of {num_steps}: {numbers}"
                print(f"{told}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            if step % KEEP_EVERY == KEEP_EVERY - 1 or step == num_steps - 1:
                self._manager.save()

    def _traced(self, fed: tuple[Any, ...]) -> tuple[Any, ...]:
        """Traces one graph for batches of every size, because tracing takes as long as many steps."""
        if self._step is None:
            sizes = tf.nest.map_structure(
                lambda part: tf.TensorSpec([None] * part.shape.rank, part.dtype), fed
            )
            self._step = tf.function(self._apply, input_signature=sizes, autograph=False)
        losses: tuple[Any, ...] = self._step(*fed)
        return losses

    def _apply(self, *fed: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            losses = self._loss(*fed)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(losses[0], self._variables)]
        self._optimizer.apply(gradients, self._variables)
        return losses


def share(done: float) -> float:
    """Returns the share of the peak learning rate at a time from 0 to 1.

    >>> [round(share(done), 2) for done in (0.025, 0.05, 1.0)]
    [0.5, 1.0, 0.0]
    """
    if done < WARM_UP:
        return done / WARM_UP
    return float(0.5 + 0.5 * np.cos(np.pi * (done - WARM_UP) / (1.0 - WARM_UP)))

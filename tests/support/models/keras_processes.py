"""Processes that load many Keras files one after the other, which saves their start."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from model_bundle.builders.keras.load.child import start_keras
from model_bundle.builders.keras.load.parent import Generation


@contextmanager
def keras_process(generation: Generation) -> Iterator[Executor]:
    """Starts a process in which ``tf.keras`` is Keras 2 or Keras 3. It is not confined."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=start_keras, initargs=(generation == 2,)
    ) as process:
        yield process

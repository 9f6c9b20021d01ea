"""A model that ends its process, as native code can, on texts that hold a certain word."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Rows
from model_bundle.errors import ModelRunError
from model_bundle.runtime.isolated.runtime import IsolatedRuntime
from model_bundle.runtime.request import EncodeRequest
from model_bundle.text import text_input
from tests.support.models.tiny import DIM, FAILING_WORD, tiny_vocabulary

# Words of the tiny vocabulary; other texts of a test do not hold them.
ABORTING_WORD = "brown"
ILLEGAL_WORD = "quick"
KILLED_WORD = "home"


class CrashingRuntime:
    """Takes what the tiny model takes, in a process that is up at once: there is no TensorFlow in it."""

    def __init__(self, request: EncodeRequest, num_threads: int) -> None:
        self.request, self.parallelism = request, num_threads
        self.unfrozen_reason: str | None = None
        self.ready_seconds = 0.0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch, or ends the process."""
        ids, vocabulary = inputs["ids"], tiny_vocabulary()
        if (ids == vocabulary[ABORTING_WORD]).any():
            ctypes.CDLL(None).abort()
        if (ids == vocabulary[ILLEGAL_WORD]).any():
            ctypes.string_at(8)
        if (ids == vocabulary[KILLED_WORD]).any() and len(ids) > 2:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out
        if (ids == vocabulary[FAILING_WORD]).any():
            raise ModelRunError(f"{vocabulary[FAILING_WORD]} is not in [0, {vocabulary[FAILING_WORD]})")
        return {name: vectors_of_ids(ids, inputs["mask"]) for name in self.request.outputs}


def vectors_of_ids(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns float32[texts, DIM] that tell texts apart, whatever the padding."""
    waves = np.sin(ids[:, :, np.newaxis] * np.arange(1, DIM + 1) / 7.0)
    return np.asarray((waves * mask[:, :, np.newaxis]).sum(axis=1), dtype=np.float32)


def expected_vectors(bundle: ModelBundle, texts: list[str]) -> np.ndarray:
    """Returns what it makes of texts, one at a time and in this process."""
    prepared = text_input(bundle.path, bundle.manifest, 64, "", Rows.DOCUMENT).prepare(texts)
    batches = [prepared.batch(np.array([i])) for i in range(len(texts))]
    return np.concatenate([vectors_of_ids(batch["ids"], batch["mask"]) for batch in batches])


def load_crashing(_: ModelBundle, request: EncodeRequest, num_threads: int | None) -> CrashingRuntime:
    """Loads it; of the bundle, only the tokenizer is used."""
    return CrashingRuntime(request, num_threads or 2)


def load_aborting(bundle: ModelBundle, request: EncodeRequest, num_threads: int | None) -> CrashingRuntime:
    """Ends the process while loading."""
    ctypes.CDLL(None).abort()
    return load_crashing(bundle, request, num_threads)


class CrashingIsolatedRuntime(IsolatedRuntime):
    """That model, in a child."""

    def __init__(self, *wanted: Any, **options: Any) -> None:
        super().__init__(*wanted, **options, load=load_crashing)

"""Measures the fastest batch size for a model on this machine, and caches it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model_bundle.base.cache import locked, staging
from model_bundle.base.machine import cpu_name
from model_bundle.base.parallel import run_parallel
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import canonical_json
from model_bundle.errors import ModelRunError, SourceError
from model_bundle.runtime.inputs import example_numbers, fixed_length
from model_bundle.runtime.tensorflow_runtime import Runtime
from model_bundle.text import as_taken, text_input

# Padded cells of a batch where nothing is measured, for models whose batches take long. See
# docs/decisions/lanes.md.
DEFAULT_BATCH_TOKENS = 2048
# Always used for ELMo. Every step reads all weights of a layer, so many texts should share it: some 300 of
# ordinary length. Measured, see docs/decisions/elmo-recurrence.md.
RECURRENT_BATCH_TOKENS = 12_288
CANDIDATES = (2048, 4096, 8192)
# A smaller batch needs less memory; a larger one has to be this much faster to be worth it.
_WORTH = 1.03
_ROUNDS = 2
# If the smallest candidate takes more processor time per thread, nothing is measured: it would take long, and
# the matrix products of such a model are large at any batch size.
_MAX_THREAD_SECONDS = 0.15
_NUM_WORDS = 40
_WORDS = "the of market said new people team space first game science company two world"

_logger = logging.getLogger(__name__)


def calibrated_batch_tokens(bundle: ModelBundle, runtime: Runtime) -> int:
    """Returns the padded cells a batch should have; takes a second or two unless cached.

    The result is cached by bundle, request, processor and threads, so that a machine produces bit-identical
    vectors from run to run. ELMo is not measured, see ``RECURRENT_BATCH_TOKENS``.
    """
    if bundle.manifest.family == "elmo":
        return RECURRENT_BATCH_TOKENS
    try:
        with locked("calibration") as cache:
            path = cache / "calibration" / f"{_key(bundle, runtime)}.json"
            known = _read(path)
            if known is None:
                known = measure_batch_tokens(bundle, runtime)
                _write(path, known)
            return known
    except SourceError as error:
        _logger.warning("The batch size is measured again in every process. %s", error)
        return measure_batch_tokens(bundle, runtime)


def measure_batch_tokens(
    bundle: ModelBundle, runtime: Runtime, clock: Callable[[], float] = time.process_time
) -> int:
    """Times batches of several sizes, all threads busy, on texts of ordinary length.

    Args:
        bundle: the bundle to measure.
        runtime: its loaded model.
        clock: seconds. Processor time, since the wall clock depends on what else the machine is doing.
    """
    try:
        smallest = _Trial(bundle, runtime, CANDIDATES[0], clock)
        smallest.run()
        if smallest.seconds > _MAX_THREAD_SECONDS * runtime.parallelism:
            return DEFAULT_BATCH_TOKENS
        trials = [smallest, *(_Trial(bundle, runtime, size, clock) for size in CANDIDATES[1:])]
        for trial in trials * _ROUNDS:
            trial.run()
    except ModelRunError:
        return DEFAULT_BATCH_TOKENS  # the job will report the error, with its document
    fastest = min(trial.seconds_a_cell for trial in trials)
    return min(trial.size for trial in trials if trial.seconds_a_cell <= fastest * _WORTH)


class _Trial:
    """A batch of one size on every thread. ``seconds`` is the shortest time of a run."""

    def __init__(self, bundle: ModelBundle, runtime: Runtime, size: int, clock: Callable[[], float]) -> None:
        self.size = size
        self.seconds = math.inf
        self._runtime = runtime
        self._clock = clock
        request, specs = runtime.request, bundle.manifest.inputs
        inputs = text_input(bundle.path, bundle.manifest, request.max_tokens, request.prompt, request.rows)
        text = " ".join((_WORDS.split() * _NUM_WORDS)[:_NUM_WORDS])
        length = max(
            int(inputs.prepare(as_taken(bundle.manifest, [text])).lengths[0]), fixed_length(specs), 1
        )
        num_texts = max(size // length, bundle.manifest.min_batch, 1)
        texts = np.arange(num_texts)
        taken = as_taken(bundle.manifest, [text] * num_texts)
        self._batch = inputs.prepare(taken).batch(texts) | example_numbers(specs, texts)
        self.num_cells = num_texts * length * runtime.parallelism

    @property
    def seconds_a_cell(self) -> float:
        return self.seconds / self.num_cells

    def run(self) -> None:
        started = self._clock()
        run_parallel(
            self._runtime.parallelism, iter(range(self._runtime.parallelism)), lambda _: self._run_one()
        )
        self.seconds = min(self.seconds, self._clock() - started)

    def _run_one(self) -> None:
        self._runtime.run(self._batch)


def _key(bundle: ModelBundle, runtime: Runtime) -> str:
    facts = {
        "bundle": bundle.digest,
        "request": runtime.request.to_json(),
        "processor": cpu_name(),
        "lanes": runtime.parallelism,
        "constants": runtime.unfrozen_reason is None,
        "candidates": [*CANDIDATES, DEFAULT_BATCH_TOKENS],
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:32]


def _read(path: Path) -> int | None:
    """Returns the cached size; a damaged file counts as missing."""
    try:
        size = json.loads(path.read_bytes())["max_batch_tokens"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if size in CANDIDATES else None


def _write(path: Path, size: int) -> None:
    with staging(path.parent) as folder:
        (folder / path.name).write_bytes(canonical_json({"max_batch_tokens": size}))
        (folder / path.name).replace(path)

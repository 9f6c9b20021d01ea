"""Keeps batches below the allocator's cap, based on what earlier batches needed.

TensorFlow 2.21 raises ResourceExhaustedError when its allocator reaches its cap, but not everywhere: oneDNN's
fused matrix product (``MklFusedMatMulOp``, after ``AllocateOutputSetMklShape`` failed) continues with the
tensor it did not get and crashes the process. So a batch that would not fit is rejected before it runs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Any

import numpy as np

from model_bundle.errors import ModelMemoryError
from model_bundle.runtime.tensorflow_setup import MEMORY_CAP

_DEVICE = "CPU:0"
# Allocations below 256 KiB come from elsewhere and are not counted: room for eight at a time.
_UNCOUNTED_BYTES = 8 * 262_144
# The allocator hands out pieces of larger regions; free memory is fragmented.
_FREE_SHARE = 0.8
# A trial must be larger than known batches by this factor to be worth its cost.
_GROWTH = 1.5
_MAX_TRIALS = 20
# A batch larger than a measured one by at most this factor is not measured and may run with others.
_KNOWN_GROWTH = 1.1
# Graphs of this package compute attention of texts over so many tokens in blocks, whose scores take up to so
# many times less per token than all scores of a text of that length.
AT_ONCE_TOKENS, BLOCKS_SAVE = 1024, 4
# Inputs with one cell per token; numeric inputs have no length.
_TOKEN_ROLES = ("ids", "mask", "types", "words")

Inputs = Mapping[str, np.ndarray]
Run = Callable[[Inputs], dict[str, np.ndarray]]


@dataclass(frozen=True)
class _Batch:
    """Number of texts, length of the longest in tokens, words or bytes, and the bytes needed if known."""

    num_texts: int
    longest: int
    num_bytes: int = 0

    @property
    def cells(self) -> int:
        return self.num_texts * self.longest


class MemoryGuard:
    """Measures the memory batches need and rejects those that would need more than is free.

    Batches similar to measured ones run in parallel while memory lasts; a larger one runs alone. If the
    allocator has no cap or no statistics, every batch is admitted.

    Args:
        tensorflow: the module.
        min_batch: the model's minimum batch size; fewer texts are never tried.
    """

    def __init__(self, tensorflow: Any, min_batch: int = 1) -> None:
        self._min_batch = min_batch
        self._memory = tensorflow.config.experimental
        self._cap = int(os.environ.get(MEMORY_CAP, "0")) if self._is_counted() else 0
        self._seen: dict[int, _Batch] = {}
        self._gate = MemoryGate()
        self._idle_free = 0.0

    def run(self, run: Run, inputs: Inputs) -> dict[str, np.ndarray]:
        """Runs a batch if it fits. For one much larger than any before, a part of it is run first to measure.

        Raises:
            ModelMemoryError: it would need more memory than is free.
        """
        if not self._cap:
            return run(inputs)
        batch = _describe(inputs)
        needed = self._known_bound(batch)
        if needed <= self._idle_free:
            with self._gate.shared(needed, self._idle_free):
                return run(inputs)
        with self._gate.exclusive():
            try:
                return self._run_alone(run, inputs, batch)
            finally:
                self._idle_free = self._free()

    def _is_counted(self) -> bool:
        """Whether the allocator has statistics; TensorFlow's plain one, used without oneDNN, has none."""
        try:
            self._memory.get_memory_info(_DEVICE)
        except ValueError:
            return False
        return True

    def _run_alone(self, run: Run, inputs: Inputs, batch: _Batch) -> dict[str, np.ndarray]:
        for _ in range(_MAX_TRIALS):
            needed, free = self._bound(batch), self._free()
            if needed <= free:
                return self._measured(run, inputs, batch)
            part = self._part(batch, needed, free)
            if part is None:
                break
            self._measured(run, _cut(inputs, part), part)
        raise ModelMemoryError(
            f"A batch of {batch.num_texts} x {batch.longest} would need about {needed / 1e6:,.0f} MB, and "
            f"{free / 1e6:,.0f} MB are free; {MEMORY_CAP} sets the limit."
        )

    def _measured(self, run: Run, inputs: Inputs, batch: _Batch) -> dict[str, np.ndarray]:
        self._memory.reset_memory_stats(_DEVICE)
        outputs = run(inputs)
        found = self._memory.get_memory_info(_DEVICE)
        # Memory kept afterwards does not belong to the batch: the first run packs the model's weights.
        needed = int(found["peak"] - found["current"])
        key = _bucket(batch.longest)
        known = self._seen.get(key, _Batch(0, 0))
        if batch.cells >= known.cells or batch.longest > known.longest:
            self._seen[key] = _Batch(batch.num_texts, batch.longest, needed)
        return outputs

    def _bound(self, batch: _Batch) -> float:
        """Bounds the memory of a batch, based on all measured ones.

        The need grows at most with the number of cells times that per text. The constant part is at most
        what the smallest measured batch needed.
        """
        least = min((seen.num_bytes for seen in self._seen.values()), default=0)

        def bound(seen: _Batch) -> float:
            growth = _growth(batch, seen)
            if growth >= 1.0:
                return (seen.num_bytes + _UNCOUNTED_BYTES) * growth
            return least + seen.num_bytes * growth + _UNCOUNTED_BYTES

        return min(map(bound, self._seen.values()), default=0.0)

    def _known_bound(self, batch: _Batch) -> float:
        """Bounds the memory based on batches of similar size or larger; infinity if there is none."""
        bounds = [
            (seen.num_bytes + _UNCOUNTED_BYTES) * max(growth, 1.0)
            for seen in list(self._seen.values())
            if (growth := _growth(batch, seen)) <= _KNOWN_GROWTH
        ]
        return min(bounds, default=math.inf)

    def _free(self) -> float:
        return (self._cap - int(self._memory.get_memory_info(_DEVICE)["current"])) * _FREE_SHARE

    def _part(self, batch: _Batch, needed: float, free: float) -> _Batch | None:
        """Returns a part to measure: fewer texts, or else shorter ones; None if it would not help."""
        num_texts = int(batch.num_texts * free / needed)
        least = min(self._min_batch, batch.num_texts)
        if num_texts >= least:
            known = max((s.cells for s in self._seen.values() if s.longest == batch.longest), default=0)
            part = _Batch(num_texts, batch.longest)
            return part if part.cells > _GROWTH * known else None
        alone = self._bound(_Batch(least, batch.longest))
        longest = int(batch.longest * math.sqrt(max(free, 0.0) / alone))
        known = max(seen.longest for seen in self._seen.values())
        return _Batch(least, longest) if longest > _GROWTH * known else None


def _growth(batch: _Batch, seen: _Batch) -> float:
    """Returns the factor by which a batch can need more than another: by cells, and by cells per text.

    Shorter texts can need more per cell only than those in blocks.
    """
    in_blocks = batch.longest <= AT_ONCE_TOKENS < seen.longest
    saved = BLOCKS_SAVE * batch.longest / AT_ONCE_TOKENS if in_blocks else 1.0
    return batch.cells / seen.cells * max(batch.longest / seen.longest, saved, 1.0)


def _describe(inputs: Inputs) -> _Batch:
    for role, array in inputs.items():
        if role in _TOKEN_ROLES:
            return _Batch(max(array.shape[0], 1), max(array.shape[1], 1))
    num_texts = max((len(array) for array in inputs.values()), default=1)
    return _Batch(max(num_texts, 1), max(map(len, inputs.get("text", ())), default=1) or 1)


def _cut(inputs: Inputs, part: _Batch) -> dict[str, np.ndarray]:
    return {role: _cut_array(role, array[: part.num_texts], part.longest) for role, array in inputs.items()}


def _cut_array(role: str, array: np.ndarray, longest: int) -> np.ndarray:
    if role == "text":
        return np.array([text[:longest] for text in array], dtype=object)
    if role == "lengths":
        return np.asarray(np.minimum(array, longest))
    return np.asarray(array[:, :longest]) if role in _TOKEN_ROLES else array


def _bucket(longest: int) -> int:
    """Groups lengths that differ by less than a sixteenth."""
    shift = max(longest.bit_length() - 5, 0)
    return longest >> shift << shift


class MemoryGate:
    """Lets batches of known size share the memory; one that is to be measured runs alone."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._num_running = 0
        self._num_alone = 0
        self._reserved_bytes = 0.0

    @contextmanager
    def shared(self, needed_bytes: float, free_bytes: float) -> Iterator[None]:
        """Waits until the batch fits next to the running ones.

        Args:
            needed_bytes: at most ``free_bytes``.
            free_bytes: free memory while nothing runs.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._num_alone == 0 and self._reserved_bytes + needed_bytes <= free_bytes
            )
            self._num_running += 1
            self._reserved_bytes += needed_bytes
        try:
            yield
        finally:
            with self._changed:
                self._num_running -= 1
                self._reserved_bytes = self._reserved_bytes - needed_bytes if self._num_running else 0.0
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits until nothing runs, and keeps others from starting."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_alone == 0)
            self._num_alone += 1
            self._changed.wait_for(lambda: self._num_running == 0)
        try:
            yield
        finally:
            with self._changed:
                self._num_alone -= 1
                self._changed.notify_all()

"""Keeps batches below the allocator's cap, by what earlier batches needed.

TensorFlow 2.21 raises ResourceExhaustedError when its allocator is at its cap, but not everywhere: oneDNN's
fused matrix product (``MklFusedMatMulOp``, after ``AllocateOutputSetMklShape`` failed) goes on with the
tensor it did not get, and the process ends. So a batch that would not fit is refused before it is run.
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
# Allocations below 256 KiB come from elsewhere and are not counted: room for eight of them at a time.
_UNCOUNTED_BYTES = 8 * 262_144
# The allocator hands out pieces of larger regions; what is free is not always in one piece.
_FREE_SHARE = 0.8
# A trial must be that much larger than what is known, or it would teach too little for what it costs.
_GROWTH = 1.5
_MAX_TRIALS = 20
# A batch that is hardly larger than a measured one need not be measured, and may run beside others.
_KNOWN_GROWTH = 1.1
# Inputs with a cell for each token; numbers that come with a text have no length.
_TOKEN_ROLES = ("ids", "mask", "types", "words")

Inputs = Mapping[str, np.ndarray]
Run = Callable[[Inputs], dict[str, np.ndarray]]


@dataclass(frozen=True)
class _Batch:
    """Some texts, the length of the longest in tokens, words or bytes, and what they needed if known."""

    num_texts: int
    longest: int
    num_bytes: int = 0

    @property
    def cells(self) -> int:
        return self.num_texts * self.longest


class MemoryGuard:
    """Measures what batches need, and refuses those that would need more than there is.

    Batches like those that were measured run beside each other as far as memory goes; a larger one is alone.
    Where the allocator has no cap or does not count, everything is let through.

    Args:
        tensorflow: the module.
        min_batch: texts that the model needs at once; fewer are never tried.
    """

    def __init__(self, tensorflow: Any, min_batch: int = 1) -> None:
        self._min_batch = min_batch
        self._memory = tensorflow.config.experimental
        self._cap = int(os.environ.get(MEMORY_CAP, "0")) if self._is_counted() else 0
        self._seen: dict[int, _Batch] = {}
        self._gate = MemoryGate()
        self._idle_free = 0.0

    def run(self, run: Run, inputs: Inputs) -> dict[str, np.ndarray]:
        """Runs a batch if it fits. One much larger than any before is judged by a part of it, run first.

        Raises:
            ModelMemoryError: it would need more memory than there is.
        """
        if not self._cap:
            return run(inputs)
        batch = _describe(inputs)
        needed = self._known_bound(batch)
        if needed <= self._idle_free:
            with self._gate.beside(needed, self._idle_free):
                return run(inputs)
        with self._gate.alone():
            try:
                return self._run_alone(run, inputs, batch)
            finally:
                self._idle_free = self._free()

    def _is_counted(self) -> bool:
        """Whether the allocator counts; TensorFlow's plain one, used where oneDNN is off, does not."""
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
        # What is kept afterwards is not of the batch: the first one makes the model pack its weights.
        needed = int(found["peak"] - found["current"])
        key = _bucket(batch.longest)
        known = self._seen.get(key, _Batch(0, 0))
        if batch.cells >= known.cells or batch.longest > known.longest:
            self._seen[key] = _Batch(batch.num_texts, batch.longest, needed)
        return outputs

    def _bound(self, batch: _Batch) -> float:
        """Bounds what a batch needs, by all that have been seen.

        It grows with the cells, and with their number in a text, or less; what every batch needs, however
        small, is at most what the least of them needed.
        """
        least = min((seen.num_bytes for seen in self._seen.values()), default=0)

        def bound(seen: _Batch) -> float:
            growth = _growth(batch, seen)
            if growth >= 1.0:
                return (seen.num_bytes + _UNCOUNTED_BYTES) * growth
            return least + seen.num_bytes * growth + _UNCOUNTED_BYTES

        return min(map(bound, self._seen.values()), default=0.0)

    def _known_bound(self, batch: _Batch) -> float:
        """The same by batches that were hardly smaller; infinity if there was none."""
        bounds = [
            (seen.num_bytes + _UNCOUNTED_BYTES) * max(growth, 1.0)
            for seen in list(self._seen.values())
            if (growth := _growth(batch, seen)) <= _KNOWN_GROWTH
        ]
        return min(bounds, default=math.inf)

    def _free(self) -> float:
        return (self._cap - int(self._memory.get_memory_info(_DEVICE)["current"])) * _FREE_SHARE

    def _part(self, batch: _Batch, needed: float, free: float) -> _Batch | None:
        """Chooses a part that fits: fewer texts, or else a shorter one; None if that teaches nothing."""
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
    """How many times as much a batch can need as another: by cells, and by their number in a text."""
    return batch.cells / seen.cells * max(batch.longest / seen.longest, 1.0)


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
    """Puts lengths that differ by less than a sixteenth together."""
    shift = max(longest.bit_length() - 5, 0)
    return longest >> shift << shift


class MemoryGate:
    """Batches whose needs are known share the memory; one whose needs are to be measured runs alone."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._num_running = 0
        self._num_alone = 0
        self._reserved_bytes = 0.0

    @contextmanager
    def beside(self, needed_bytes: float, free_bytes: float) -> Iterator[None]:
        """Waits for room beside others.

        Args:
            needed_bytes: at most ``free_bytes``.
            free_bytes: what there is when nothing runs.
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
    def alone(self) -> Iterator[None]:
        """Waits until nothing runs, and lets nothing start."""
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

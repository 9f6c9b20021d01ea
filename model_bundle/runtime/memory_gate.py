"""Lets batches run beside each other as long as what they need together is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


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

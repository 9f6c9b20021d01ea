"""Sums the time spent inside one function of a library."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any


class Stopwatch:
    """Seconds since the last reset in which at least one thread was in a function.

    Args:
        owner: the object or class that the function is looked up on.
        name: the function's name there; it is replaced by one that takes the time.
        observe: is given the arguments of every call, one at a time.
        clock: seconds, of which differences count.
    """

    def __init__(
        self,
        owner: Any,
        name: str,
        observe: Callable[..., None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.seconds = 0.0
        self._lock = Lock()
        self._num_inside = 0
        self._since = 0.0
        self._clock = clock
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if observe is not None:
                with self._lock:
                    observe(*args, **kwargs)
            self._enter()
            try:
                return inner(*args, **kwargs)
            finally:
                self._leave()

        setattr(owner, name, timed)

    def _enter(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._since = self._clock()
            self._num_inside += 1

    def _leave(self) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self.seconds += self._clock() - self._since

    def reset(self) -> float:
        """Returns the accumulated seconds and resets them to 0."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

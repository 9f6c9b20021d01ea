"""Adds up the time spent inside one function of somebody else's code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Seconds spent in a function since the last reset.

    Args:
        owner: the object or class that the function is looked up on.
        name: the function's name there; it is replaced by one that takes the time.
        observe: is given the arguments of every call, outside the time.
    """

    def __init__(self, owner: Any, name: str, observe: Callable[..., None] | None = None) -> None:
        self.seconds = 0.0
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if observe is not None:
                observe(*args, **kwargs)
            started = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        setattr(owner, name, timed)

    def reset(self) -> float:
        """Gives the seconds so far and starts again from 0."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

"""Runs batches in parallel, one thread each.

Threads that share a batch wait for each other at the end of every operation, and most operations of a small
model are too small to share. Threads with a batch of their own do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

_Item = TypeVar("_Item")


def run_parallel(parallelism: int, items: Iterator[_Item], run: Callable[[_Item], None]) -> None:
    """Runs items in order, ``parallelism`` at a time. The next item is drawn when a thread is free.

    Raises:
        Exception: the first that ``run`` or ``items`` raised; no item is started after it.
    """
    if parallelism == 1:
        for item in items:
            run(item)
        return
    shared = _Shared(items)

    def work() -> None:
        try:
            for item in shared:
                run(item)
        except BaseException:
            shared.close()
            raise

    with ThreadPoolExecutor(parallelism, thread_name_prefix="batch") as pool:
        futures = [pool.submit(work) for _ in range(parallelism)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            shared.close()
    for future in done:
        future.result()


class _Shared(Iterator[_Item]):
    """A thread-safe iterator; a generator raises when two threads draw from it at once."""

    def __init__(self, items: Iterator[_Item]) -> None:
        self._items = items
        self._lock = Lock()
        self._is_closed = False

    def __next__(self) -> _Item:
        with self._lock:
            if self._is_closed:
                raise StopIteration
            return next(self._items)

    def close(self) -> None:
        """Ends the iteration for all threads."""
        with self._lock:
            self._is_closed = True

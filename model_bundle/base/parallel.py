"""Batches side by side, one thread each.

A batch that several threads share waits at the end of every operation, and most operations of a small model
are too small to share. Batches of their own need not wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

_Item = TypeVar("_Item")


def run_parallel(parallelism: int, items: Iterator[_Item], run: Callable[[_Item], None]) -> None:
    """Runs items in their order, ``parallelism`` at a time. Items are drawn one by one, when a lane is free.

    Raises:
        Exception: the first that ``run`` or ``items`` raised; nothing is started after it.
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
    """An iterator for several threads; a generator alone refuses two at once."""

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
        """Ends it for everybody."""
        with self._lock:
            self._is_closed = True

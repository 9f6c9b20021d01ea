"""Runs attempts step by step in any order: each call to the storage is a step, where an attempt may die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from beam_jobs.store import filesystem

# What the commit does to the storage; ``_rename`` is the moment of a move.
STEPS = (
    *("exists", "size_of", "list_files", "read_bytes", "sha256_of", "create_if_absent", "replace"),
    *("_rename", "_staged", "delete", "delete_folder"),
)


class Killed(BaseException):
    """An attempt died; no ``except Exception`` of the job may catch this."""


class Attempt:
    """One attempt, in a thread that only runs while it is let.

    Args:
        work: what it does.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.has_ended = False
        self.num_steps = 0
        self._dies = False
        self._may_go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def step(self, *, dies: bool = False) -> None:
        """Lets it do one step, or die instead of it; does nothing if it has ended."""
        if not self.has_ended:
            self._dies = dies
            self._may_go.release()
            self._stands.acquire()

    def stand(self) -> None:
        """Waits in the thread of the attempt, before a step."""
        self._stands.release()
        self._may_go.acquire()
        self.num_steps += 1
        if self._dies:
            raise Killed

    def is_this_thread(self) -> bool:
        """Whether the caller is the attempt."""
        return threading.current_thread() is self._thread

    def _run(self, work: Callable[[], Any]) -> None:
        self._may_go.acquire()
        try:
            self.result = work()
        except BaseException as error:  # the test looks at it
            self.error = error
        self.has_ended = True
        self._stands.release()


@contextmanager
def attempts(*works: Callable[[], Any]) -> Iterator[list[Attempt]]:
    """Starts attempts that stand before their first step; at the end, those that have not ended die."""
    started: list[Attempt] = []

    def stepwise(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            for attempt in started:
                if attempt.is_this_thread():
                    attempt.stand()
            return call(*args, **kwargs)

        return wrapped

    wrapped_steps: dict[str, Any] = {name: stepwise(getattr(filesystem, name)) for name in STEPS}
    with mock.patch.multiple(filesystem, **wrapped_steps):
        started += [Attempt(work) for work in works]
        try:
            yield started
        finally:
            for attempt in started:
                while not attempt.has_ended:
                    attempt.step(dies=True)


def run_schedule(
    started: Sequence[Attempt], order: Sequence[tuple[int, bool]], check: Callable[[], None]
) -> None:
    """Runs attempts in an order of (which, dies), then each to its end; checks after every step."""
    for which, dies in order:
        started[which].step(dies=dies)
        check()
    for attempt in started:
        while not attempt.has_ended:
            attempt.step()
            check()

"""SIGINT and SIGTERM: stop every child, leave nothing that looks finished, say how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

# What a shell gives a process that a signal ended.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextlib.contextmanager
def stop_on_signals(run_id: str) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM end this process and its children at once.

    A runner's threads cannot be asked to stop, and need not be: without a manifest there is no run.
    """

    def stop(number: int, _: FrameType | None) -> None:
        sys.stderr.write(
            f"\nStopped by {signal.Signals(number).name}. No run was written; what is in its _staging folder "
            f"is never read. Start again with --run_id {run_id} to use the same folder.\n"
        )
        sys.stderr.flush()
        for child in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        os._exit(_EXIT_CODES[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in _EXIT_CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _descendants(pid: int) -> list[int]:
    """Lists the processes that a process started, and theirs."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in tasks.read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found

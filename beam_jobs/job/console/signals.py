"""SIGINT and SIGTERM: stop every child, leave nothing that looks finished, say how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from beam_jobs.job.console.console import Console

# What a shell gives a process that a signal ended.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class InterruptMessage:
    """What to say when a signal ends the process."""

    def __init__(self) -> None:
        self.message = "Nothing was started."

    def started(self, run_id: str, *, in_process: bool) -> None:
        """Says that from now on a run is under way."""
        if not in_process:
            self.message = (
                f"Nobody waits for run {run_id} any more. If it was submitted, it goes on; stop it there."
            )
            return
        self.message = (
            "No run was written. To go on with what was done, start again with --resume, or with "
            f"--run_id {run_id}."
        )

    def ended(self) -> None:
        """Says that the run has its manifest."""
        self.message = "The run had ended by then."


@contextlib.contextmanager
def stop_on_signals(console: Console) -> Iterator[InterruptMessage]:
    """While inside, SIGINT and SIGTERM end this process and its children at once.

    A runner's threads cannot be asked to stop, and need not be: without a manifest there is no run. Signals
    belong to the main thread; in another one this does nothing.
    """
    interrupt = InterruptMessage()

    def stop(number: int, _: FrameType | None) -> None:
        # Not through sys.stderr: the signal may have come while that was being written to.
        os.write(
            2, console.termination_message(f"Stopped by {signal.Signals(number).name}. {interrupt.message}")
        )
        for child in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        os._exit(_EXIT_CODES[signal.Signals(number)])

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    sys.stderr.flush()
    before = {number: signal.signal(number, stop) for number in _EXIT_CODES}
    try:
        yield interrupt
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

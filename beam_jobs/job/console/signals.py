"""SIGINT and SIGTERM: stop every child, leave nothing that looks finished, print how to resume."""

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
from beam_jobs.job.console.notebook import is_notebook

# The exit codes that shells report for a process ended by a signal.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class InterruptMessage:
    """The message printed when a signal ends the process."""

    def __init__(self) -> None:
        self.message = "Nothing was started."

    def started(self, run_id: str, *, in_process: bool) -> None:
        """Notes that a run is under way."""
        if not in_process:
            self.message = (
                f"No longer waiting for run {run_id}. If it was submitted, it continues; stop it there."
            )
            return
        self.message = (
            "No run was written. To continue with what was done, start again with --resume, or with "
            f"--run_id {run_id}."
        )

    def ended(self) -> None:
        """Notes that the run has its manifest."""
        self.message = "The run had already ended."


@contextlib.contextmanager
def stop_on_signals(console: Console) -> Iterator[InterruptMessage]:
    """While inside, SIGINT and SIGTERM end this process and its children at once.

    A runner's threads cannot be asked to stop, and need not be: without a manifest there is no run. Signals
    belong to the main thread; in another one this does nothing. Nor does it in a notebook: ending the process
    would take the user's variables along, so Ctrl-C stays Python's KeyboardInterrupt there.
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

    if threading.current_thread() is not threading.main_thread() or is_notebook():
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
    """Returns the ids of a process's children, theirs included."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in tasks.read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found

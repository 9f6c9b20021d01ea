"""The line that shows how far a sync is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from beam_jobs.base.units import count

_LOG_SECONDS, _TERMINAL_SECONDS = 60.0, 0.5


class Progress:
    """Shows rows written: a live line on a terminal, one line per minute elsewhere.

    Args:
        stream: where to.
        clock: seconds, of which differences count.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._is_live = stream.isatty()
        self._rows = 0
        self._total: int | None = None
        self._started = self._shown = clock()

    def start(self, what: str, total: int | None) -> None:
        """Begins to count, towards a number of rows if it is known."""
        self._total = total
        self._started = self._shown = self._clock()
        self.say(f"Writing {what}")

    def add(self, rows: int) -> None:
        """Counts rows."""
        self._rows += rows
        now = self._clock()
        if now - self._shown >= (_TERMINAL_SECONDS if self._is_live else _LOG_SECONDS):
            self._shown = now
            self._print(describe(self._rows, self._total, now - self._started), stays=not self._is_live)

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self._print(line, stays=True)

    def end(self) -> None:
        """Clears the live line."""
        if self._is_live:
            self._print("", stays=False)

    def _print(self, line: str, *, stays: bool) -> None:
        clear, end = ("\r\x1b[K" if self._is_live else ""), ("\n" if stays else "")
        self._stream.write(f"{clear}{line}{end}")
        self._stream.flush()


def describe(rows: int, total: int | None, seconds: float) -> str:
    """Returns how far a sync is.

    >>> describe(16_384, 100_000, 2.0)
    '16,384 rows · 16 % · 8,192 rows/s'
    """
    parts = [count(rows, "row")]
    if total:
        parts.append(f"{100 * rows / total:.0f} %")
    parts.append(f"{rows / max(seconds, 1e-9):,.0f} rows/s")
    return " · ".join(parts)

"""What a command prints while it works: lines for people, or JSON objects for log collectors."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Literal, Protocol, TextIO

from beam_jobs.base.worker_log import worker_name
from model_bundle.base.untrusted.printable import one_line, printable, show

Event = Literal[
    "plan",
    "reuse",
    "warning",
    "workers",
    "progress",
    "metrics",
    "summary",
    "forecast",
    "error",
    "stopped",
    "log",
    "output",
]
# As Python and Cloud Logging both spell them.
Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Facts = Mapping[str, Any] | None
_DEFAULT_COLUMNS = 80
_PREFIXES = {"warning": "warning: ", "error": "error: ", "reuse": "taking over: ", "metrics": "metrics: "}


class Console(Protocol):
    """Where a command prints.

    ``run_id`` and ``attempt`` are set once the run has a name. ``is_live``: whether a line may be redrawn
    again and again.
    """

    run_id: str | None
    attempt: str | None
    is_live: bool

    def print(self, event: Event, message: str, severity: Severity = "INFO", facts: Facts = None) -> None:
        """Prints a message; ``facts`` are the same as plain JSON data."""

    def draw(self, line: str) -> None:
        """Redraws the live line, cut to the terminal's width; an empty one clears it."""

    def termination_message(self, message: str) -> bytes:
        """Returns the bytes written when a signal ends the process."""


class TextConsole:
    """Prints the summary or forecast to standard output, all else to standard error.

    A reader that goes away does not end the job: its exit code says how it went.

    Args:
        stream: used instead of standard error.
        columns: width of the terminal; asked for at every redraw.
    """

    def __init__(self, stream: TextIO | None = None, columns: Callable[[TextIO], int] | None = None) -> None:
        self.run_id: str | None = None
        self.attempt: str | None = None
        self._stream = stream or sys.stderr
        self._columns = columns or _columns
        self.is_live = self._stream.isatty()
        self._is_drawn = False

    def print(self, event: Event, message: str, severity: Severity = "INFO", facts: Facts = None) -> None:
        """See ``Console.print``; facts are not repeated."""
        del severity, facts
        stream = sys.stdout if event in ("summary", "forecast") else self._stream
        if self._is_drawn:
            self.draw("")
        with contextlib.suppress(BrokenPipeError):
            show(f"{_PREFIXES.get(event, '')}{message}", stream)

    def draw(self, line: str) -> None:
        """See ``Console.draw``."""
        self._is_drawn = bool(line)
        # The last column stays free: some terminals wrap when it is written.
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(f"\r\x1b[K{fit(one_line(line), self._columns(self._stream) - 1)}")
            self._stream.flush()

    def termination_message(self, message: str) -> bytes:
        """See ``Console.termination_message``."""
        return f"\n{printable(message)}\n".encode()


class JsonConsole:
    """Prints one JSON object per line, with Cloud Logging's names: ``time``, ``severity``, ``message``.

    Args:
        stream: used instead of standard error.
    """

    is_live = False

    def __init__(self, stream: TextIO | None = None) -> None:
        self.run_id: str | None = None
        self.attempt: str | None = None
        self._stream = stream or sys.stderr
        self._lock = Lock()

    def print(self, event: Event, message: str, severity: Severity = "INFO", facts: Facts = None) -> None:
        """See ``Console.print``; facts become fields."""
        line = self._line(event, message, severity, facts)
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stream.write(line)
            self._stream.flush()

    def draw(self, line: str) -> None:
        """Does nothing: a log has no line that changes."""

    def termination_message(self, message: str) -> bytes:
        """See ``Console.termination_message``."""
        return self._line("stopped", message, "ERROR", None).encode()

    def _line(self, event: Event, message: str, severity: Severity, facts: Facts) -> str:
        said = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "severity": severity,
            "message": message,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "worker": worker_name(),
            "event": event,
        }
        # ASCII alone: a stream may have any encoding.
        return json.dumps(said | dict(facts or {}) | said, default=str) + "\n"


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):  # a stream without a file below, or one that is no terminal
        return _DEFAULT_COLUMNS


def fit(line: str, columns: int) -> str:
    """Cuts a line to a number of terminal columns; East Asian wide characters take two, combining ones none.

    >>> fit("10 documents · 5 tokens/s", 14), fit("日本語", 5), fit("short", 14)
    ('10 documents …', '日本…', 'short')
    """
    widths = [_width(character) for character in line]
    if sum(widths) <= columns:
        return line
    used, kept = 0, ""
    for character, width in zip(line, widths, strict=True):
        if used + width > columns - 1:
            break
        used, kept = used + width, kept + character
    return kept + "…" if columns > 0 else ""


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("F", "W") else 1

"""What a command says while it works: lines for people, or JSON objects for schedulers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Literal, Protocol, TextIO

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
_PREFIXES = {"warning": "warning: ", "error": "error: ", "reuse": "taking over: ", "metrics": "metrics: "}


class Console(Protocol):
    """Where a command speaks.

    ``run_id`` is set when the run has a name. ``is_live`` tells that a line may be drawn again and again.
    """

    run_id: str | None
    is_live: bool

    def print(
        self,
        event: Event,
        message: str,
        severity: Severity = "INFO",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Says something; ``facts`` are plain JSON data that the message tells in words."""
        ...

    def draw(self, line: str) -> None:
        """Draws the live line anew; an empty one clears it."""
        ...

    def termination_message(self, message: str) -> bytes:
        """Returns what is written when a signal ends the process."""
        ...


class TextConsole:
    """Lines: the summary or forecast to the standard output, all else to the standard error.

    Args:
        stream: instead of the standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.run_id: str | None = None
        self._stream = stream or sys.stderr
        self.is_live = self._stream.isatty()

    def print(
        self,
        event: Event,
        message: str,
        severity: Severity = "INFO",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """See ``Console.print``; facts are not repeated."""
        del severity, facts
        stream = sys.stdout if event in ("summary", "forecast") else self._stream
        print(f"{_PREFIXES.get(event, '')}{message}", file=stream, flush=True)

    def draw(self, line: str) -> None:
        """See ``Console.draw``."""
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()

    def termination_message(self, message: str) -> bytes:
        """See ``Console.termination_message``."""
        return f"\n{message}\n".encode()


class JsonConsole:
    """One JSON object a line, with the names that Cloud Logging knows: ``time``, ``severity``, ``message``.

    Args:
        stream: instead of the standard error.
    """

    is_live = False

    def __init__(self, stream: TextIO | None = None) -> None:
        self.run_id: str | None = None
        self._stream = stream or sys.stderr
        self._lock = Lock()

    def print(
        self,
        event: Event,
        message: str,
        severity: Severity = "INFO",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """See ``Console.print``; facts become fields."""
        line = self._line(event, message, severity, facts)
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    def draw(self, line: str) -> None:
        """Does nothing: what is read later has no line that changes."""

    def termination_message(self, message: str) -> bytes:
        """See ``Console.termination_message``."""
        return self._line("stopped", message, "ERROR", None).encode()

    def _line(self, event: Event, message: str, severity: Severity, facts: Mapping[str, Any] | None) -> str:
        said = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "severity": severity,
            "message": message,
            "run_id": self.run_id,
            "event": event,
        }
        # ASCII alone: a stream may have any encoding.
        return json.dumps(said | dict(facts or {}) | said, default=str) + "\n"

"""Lines as they come: one by one from a person, many at once from a file."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TextIO

# Questions that share one pass over the run; each costs memory for its scores.
_MAX_LINES = 256


def waiting_lines(stream: TextIO, most: int = _MAX_LINES) -> Iterator[list[str]]:
    """Returns the lines that are there by now, at least one, without blank ones, until the stream ends.

    Args:
        stream: what to read.
        most: lines at once.
    """
    lines: SimpleQueue[str | None] = SimpleQueue()

    def feed() -> None:
        try:
            for line in stream:
                if line.strip():
                    lines.put(line.strip())
        finally:
            lines.put(None)

    Thread(target=feed, name="stdin", daemon=True).start()
    line = lines.get()
    while line is not None:
        group = [line]
        line = _next(lines)
        while line and len(group) < most:
            group.append(line)
            line = _next(lines)
        yield group
        # An empty string says that nothing is waiting.
        line = lines.get() if line == "" else line


def _next(lines: SimpleQueue[str | None]) -> str | None:
    try:
        return lines.get_nowait()
    except Empty:
        return ""

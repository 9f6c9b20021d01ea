"""The live line: progress so far, from counters in this process or the runner's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import Self

from beam_jobs.base import metrics
from beam_jobs.base.units import count, format_duration
from beam_jobs.job.console.console import Console

# Counters that show that documents have come out of the job.
_RESULTS = {metrics.DOCUMENTS_ENCODED, metrics.DOCUMENTS_REUSED, metrics.DOCUMENTS_DEAD}
# Without a terminal one line per minute is enough for a log, and shows that the job is alive.
_LOG_SECONDS = 60.0
_TERMINAL_SECONDS = 0.5


def describe(
    counts: Mapping[str, int],
    seconds: float,
    total_bytes: int | None,
    waiting_for: str = "importing TensorFlow and loading the model",
) -> str:
    """Returns one line on how far a job is; before there is a result, on what it waits for.

    >>> describe({"encoded_documents": 900, "encoded_tokens": 45000, "padded_tokens": 50000,
    ...           "dead_documents": 2, "input_bytes": 500}, 10.0, 1000)
    '900 documents · 4,500 tokens/s · padding 10 % · 2 dead · 50 % read · 0:10 left'
    """
    if not counts:
        return f"{waiting_for} · {format_duration(seconds)}"
    if not counts.keys() & _RESULTS:
        num_read = count(counts.get(metrics.DOCUMENTS_READ, 0), "document")
        return f"{num_read} read, computing the first batch · {format_duration(seconds)}"
    documents, tokens = counts.get(metrics.DOCUMENTS_ENCODED, 0), counts.get(metrics.TOKENS, 0)
    reused = counts.get(metrics.DOCUMENTS_REUSED, 0)
    padded = counts.get(metrics.PADDED_TOKENS, 0)
    parts = [
        count(documents, "document"),
        f"{tokens / max(seconds, 1e-9):,.0f} tokens/s",
    ]
    if padded:
        parts.append(f"padding {100 * (1 - tokens / padded):.0f} %")
    if reused:
        parts.append(f"{reused:,} reused")
    parts.append(f"{counts.get(metrics.DOCUMENTS_DEAD, 0):,} dead")
    read = counts.get(metrics.BYTES_READ, 0)
    if total_bytes and read:
        share = min(read / total_bytes, 1.0)
        parts.append(f"{share:.0%} read".replace("%", " %"))
        if documents or reused:
            parts.append(f"{format_duration(seconds * (1 - share) / share)} left")
    return " · ".join(parts)


class LiveLine:
    """Shows progress while a job runs: a live line on a terminal, one line per minute elsewhere.

    Args:
        read: returns the current counts.
        total_bytes: size of the input; None where it is unknown.
        console: prints it.
        clock: seconds, of which differences count.
        pause: waits for some seconds, or until the event is set, and returns whether it was.
        waiting_for: what the job does before it counts anything, or a function that returns it.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, int]],
        total_bytes: int | None,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Event, float], bool] = Event.wait,
        waiting_for: str | Callable[[], str] = "importing TensorFlow and loading the model",
    ) -> None:
        self._read = read
        self._total_bytes = total_bytes
        self._console = console
        self._clock = clock
        self._pause = pause
        self._waiting_for = waiting_for
        self._started = clock()
        self._stop = Event()
        self._thread = Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Starts the thread that shows progress."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops it, and clears the line on a terminal."""
        self._stop.set()
        self._thread.join()
        if self._console.is_live:
            self._console.draw("")

    def _show(self) -> None:
        while not self._pause(self._stop, _TERMINAL_SECONDS if self._console.is_live else _LOG_SECONDS):
            counts, seconds = self._read(), self._clock() - self._started
            waiting_for = self._waiting_for if isinstance(self._waiting_for, str) else self._waiting_for()
            line = describe(counts, seconds, self._total_bytes, waiting_for)
            if self._console.is_live:
                self._console.draw(line)
            else:
                facts = {"counters": dict(counts), "elapsed_seconds": round(seconds, 1)}
                self._console.print("progress", line, facts=facts | {"total_bytes": self._total_bytes})

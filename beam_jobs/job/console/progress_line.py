"""The live line: what has been done so far, from counters in this process or from the runner's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from types import TracebackType
from typing import Self

from beam_jobs.base import metrics
from beam_jobs.base.units import format_duration
from beam_jobs.job.console.console import Voice

# Without a terminal a line a minute is enough for a log, and tells that the job lives.
_LOG_SECONDS = 60.0
_TERMINAL_SECONDS = 0.5


def describe(counts: Mapping[str, int], seconds: float, total_bytes: int | None) -> str:
    """Says on one line how far a job is.

    >>> describe({"encoded_documents": 900, "encoded_tokens": 45000, "padded_tokens": 50000,
    ...           "dead_documents": 2, "input_bytes": 500}, 10.0, 1000)
    '900 documents · 4,500 tokens/s · padding 10 % · 2 dead · 50 % read · 0:10 left'
    """
    if not counts:  # the model is loading, or workers in other processes count
        return f"{format_duration(seconds)} since the start, no counts yet"
    documents, tokens = counts.get(metrics.DOCUMENTS_ENCODED, 0), counts.get(metrics.TOKENS, 0)
    reused = counts.get(metrics.DOCUMENTS_REUSED, 0)
    padded = counts.get(metrics.PADDED_TOKENS, 0)
    parts = [f"{documents:,} documents", f"{tokens / max(seconds, 1e-9):,.0f} tokens/s"]
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
    """Shows progress while a job runs: a line that changes on a terminal, a line a minute elsewhere.

    Args:
        read: gives the counts as they are now.
        total_bytes: size of the input, where it is known.
        voice: says it.
        clock: seconds, of which differences count.
        pause: waits for some seconds, or until the event is set, and returns whether it was.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, int]],
        total_bytes: int | None,
        voice: Voice,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Event, float], bool] = Event.wait,
    ) -> None:
        self._read = read
        self._total_bytes = total_bytes
        self._voice = voice
        self._clock = clock
        self._pause = pause
        self._started = clock()
        self._stop = Event()
        self._thread = Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Starts to show."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops, and clears the line on a terminal."""
        self._stop.set()
        self._thread.join()
        if self._voice.is_live:
            self._voice.draw("")

    def _show(self) -> None:
        while not self._pause(self._stop, _TERMINAL_SECONDS if self._voice.is_live else _LOG_SECONDS):
            counts, seconds = self._read(), self._clock() - self._started
            line = describe(counts, seconds, self._total_bytes)
            if self._voice.is_live:
                self._voice.draw(line)
            else:
                facts = {"counters": dict(counts), "elapsed_seconds": round(seconds, 1)}
                self._voice.say("progress", line, facts=facts | {"total_bytes": self._total_bytes})

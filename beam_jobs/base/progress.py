"""Progress counts of a running job, shared by its steps and its live line within one process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock

# Connects a job's steps with its live line when they share a process: steps are pickled, so they can carry
# only a name. In another process nothing is registered, and counting does nothing.
_tallies: dict[str, Tally] = {}


class Tally:
    """Counts of one job in this process, shared by all its threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, name: str, count: int) -> None:
        """Adds to a counter."""
        with self._lock:
            self._counts[name] += count

    def read(self) -> dict[str, int]:
        """Returns all counters as they are now."""
        with self._lock:
            return dict(self._counts)


def open_tally(job: str) -> Tally:
    """Starts counting a job in this process."""
    return _tallies.setdefault(job, Tally())


def close_tally(job: str) -> None:
    """Stops counting a job."""
    _tallies.pop(job, None)


@dataclass(frozen=True)
class ProgressSink:
    """Receives the counts of a step; pickles as the name of the job."""

    job: str

    def add(self, name: str, count: int) -> None:
        """Adds to a counter; does nothing if the job is not counted in this process."""
        tally = _tallies.get(self.job)
        if tally is not None:
            tally.add(name, count)

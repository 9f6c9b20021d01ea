"""Decides when a worker closes its file and how many documents it buffers, to bound the loss in a crash.

The limit is a share of the time worked so far, within bounds: a crash costs a small part of the work, early
or late, and a long job does not write thousands of small files.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]

# A crash loses the open file and the current buffer: at most a seventh of the work, or 90 seconds of it with
# the default of --checkpoint_seconds.
_FILE_SHARE = 0.10
_BUFFER_SHARE = 0.04
# Closing files and buffers more often costs more than it can save.
_LEAST_SECONDS = 4.0
# The first buffer measures the speed of the model.
_FIRST_DOCUMENTS = 512


class Checkpoint:
    """Decides when the open file should be closed.

    Args:
        max_seconds: maximum time that work may stay in an open file.
    """

    def __init__(self, max_seconds: float, clock: Clock = time.monotonic) -> None:
        self._max_seconds, self._clock = max_seconds, clock
        self._started = self._safe_at = clock()

    def reached(self) -> None:
        """Records that all work so far is saved."""
        self._safe_at = self._clock()

    @property
    def is_due(self) -> bool:
        """Whether enough unsaved work has accumulated that the file should be closed now."""
        now = self._clock()
        return now - self._safe_at >= _allowed(_FILE_SHARE, now - self._started, self._max_seconds)


class BufferLimit:
    """Decides how many documents to buffer, so that computing them does not take too long.

    Args:
        max_documents: upper limit.
        max_seconds: maximum computing time of a buffer.
    """

    def __init__(self, max_documents: int, max_seconds: float, clock: Clock = time.monotonic) -> None:
        self._max_documents, self._max_seconds, self._clock = max_documents, max_seconds, clock
        self._started = clock()
        self.documents = min(max_documents, _FIRST_DOCUMENTS)

    def computed(self, num_documents: int, seconds: float, filling: int = 1) -> None:
        """Updates the limit with the time that a buffer took.

        Args:
            num_documents: documents in the buffer.
            seconds: their computing time.
            filling: documents that fill one batch per thread; with fewer, a slow model is even slower.
        """
        allowed = _allowed(_BUFFER_SHARE, self._clock() - self._started, self._max_seconds)
        per_second = num_documents / max(seconds, 1e-6)
        fitting = int(max(per_second * allowed, min(filling, per_second * self._max_seconds)))
        # A single slow or fast buffer is weak evidence.
        fitting = max(self.documents // 4, min(fitting, self.documents * 4))
        self.documents = max(1, min(fitting, self._max_documents))


def _allowed(share: float, seconds: float, most: float) -> float:
    return min(max(share * seconds, _LEAST_SECONDS), most)

"""How long a worker works before what it has done is safe: a share of the time it has worked, within bounds.

So a crash costs a small part of the work, early or late, and a long job has no thousands of small files.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]

# A crash loses the open file and the buffer that is being computed: a seventh of the work, or a minute and a
# half of it under the default of --checkpoint_seconds, whichever is less.
_FILE_SHARE = 0.10
_BUFFER_SHARE = 0.04
# Opening files and filling buffers more often costs more than it can save.
_LEAST_SECONDS = 4.0
# The first buffer tells how fast the model is.
_FIRST_DOCUMENTS = 512


class Checkpoint:
    """Tells when the file being written should be closed.

    Args:
        max_seconds: the longest that work may stay in an open file.
    """

    def __init__(self, max_seconds: float, clock: Clock = time.monotonic) -> None:
        self._max_seconds, self._clock = max_seconds, clock
        self._started = self._safe_at = clock()

    def reached(self) -> None:
        """Notes that all work up to now is safe."""
        self._safe_at = self._clock()

    @property
    def is_due(self) -> bool:
        """Whether so much work is not yet safe that it should be made so."""
        now = self._clock()
        return now - self._safe_at >= _allowed(_FILE_SHARE, now - self._started, self._max_seconds)


class BufferLimit:
    """Tells how many documents may be gathered, so that computing them does not take too long.

    Args:
        max_documents: never more.
        max_seconds: the longest that a buffer may take.
    """

    def __init__(self, max_documents: int, max_seconds: float, clock: Clock = time.monotonic) -> None:
        self._max_documents, self._max_seconds, self._clock = max_documents, max_seconds, clock
        self._started = clock()
        self.documents = min(max_documents, _FIRST_DOCUMENTS)

    def computed(self, num_documents: int, seconds: float, filling: int = 1) -> None:
        """Learns from a buffer how fast the model is.

        Args:
            num_documents: in the buffer.
            seconds: what they took.
            filling: documents that fill a batch on each lane; a slow model is slower yet with fewer.
        """
        allowed = _allowed(_BUFFER_SHARE, self._clock() - self._started, self._max_seconds)
        a_second = num_documents / max(seconds, 1e-6)
        fitting = int(max(a_second * allowed, min(filling, a_second * self._max_seconds)))
        # One slow buffer, or a fast one, says little.
        fitting = max(self.documents // 4, min(fitting, self.documents * 4))
        self.documents = max(1, min(fitting, self._max_documents))


def _allowed(share: float, seconds: float, most: float) -> float:
    return min(max(share * seconds, _LEAST_SECONDS), most)

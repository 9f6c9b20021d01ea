"""Groups paragraphs and sentences to windows, so that an edit changes only the windows around it.

Filling windows one after another would move all that follow an edit. So a text is first cut into sections, at
boundaries that stand out in their surroundings by a hash of their characters; windows are filled from the
beginning of each. Design and measurements: docs/decisions/window-boundaries.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from model_bundle.text.boundaries import (
    LINE,
    PARAGRAPH,
    SENTENCE,
    TOKEN,
    WORD,
    WindowsAt,
    boundary_keys,
    ends_within,
    find_boundaries,
    lone_minima,
)


@dataclass(frozen=True)
class TokenPlaces:
    """Where tokens end in their text: ``stops`` is int64[tokens], in characters, ascending."""

    stops: np.ndarray

    def before(self, offsets: np.ndarray) -> np.ndarray:
        """Returns int64[offsets], the tokens that end at each offset or before."""
        return np.searchsorted(self.stops, offsets, side="right")


class Grouping:
    """Splits texts into windows that end at boundaries.

    Args:
        windows_at: the best boundaries.
        overlap: sentences that a window shares with the one before.
        language: of the texts, see ``find_boundaries``.
    """

    def __init__(self, windows_at: WindowsAt, overlap: int, language: str) -> None:
        self._best = PARAGRAPH if windows_at is WindowsAt.PARAGRAPH else SENTENCE
        self._overlap = overlap
        self._language = language

    def cut(self, text: str, places: TokenPlaces, room: int) -> np.ndarray:
        """Splits a text.

        Args:
            text: without the prompt.
            places: of its tokens.
            room: tokens per window, at least 1.

        Returns:
            int64[windows, 2]: start and end token, ascending; they cover every token and none has more than
            ``room``. No tokens give one empty window.
        """
        num_tokens = len(places.stops)
        if num_tokens <= room:
            return np.array([[0, num_tokens]], dtype=np.int64)
        ends = _Ends.of(text, places, room, self._language, self._best)
        windows: list[tuple[int, int]] = []
        first = 0
        for last in ends.sections(text, room):
            windows.extend(_Section(ends, first, last, room, self._overlap).windows())
            first = last + 1
        return np.array(windows, dtype=np.int64)


@dataclass(frozen=True)
class _Ends:
    """Boundaries by token: ``tokens`` are before each, ascending and different; the last one is the end.

    ``offsets``: int64[boundaries], characters before each. ``levels``: what ends there.
    """

    offsets: np.ndarray
    tokens: list[int]
    levels: list[int]

    @classmethod
    def of(cls, text: str, places: TokenPlaces, room: int, language: str, best: int) -> _Ends:
        """Finds boundaries so close that a window reaches from each to the next."""
        found = find_boundaries(text, language)
        tokens = places.before(found.offsets)
        tokens[-1] = len(places.stops)  # characters after the last token belong to it
        table = np.stack([tokens, np.maximum(found.levels, best), found.offsets])
        for level in (LINE, WORD, TOKEN):
            sizes = np.diff(table[0], prepend=0)
            if (sizes <= room).all():
                break
            gaps = np.flatnonzero(sizes > room).tolist()
            table = np.concatenate([table, *(_inside(text, places, table, g, level) for g in gaps)], axis=1)
            table = table[:, np.lexsort(table[::-1])]  # by token, then by level
        table = table[:, np.lexsort(table[::-1])]
        # Of boundaries without a token between them, the best one counts.
        table = table[:, np.diff(table[0], prepend=0) > 0]
        return cls(table[2], table[0].tolist(), table[1].tolist())

    def sections(self, text: str, room: int) -> list[int]:
        """Returns the boundaries that end a section, the last one included; see the module."""
        tokens = np.array(self.tokens)
        keys = (boundary_keys(text, self.offsets) >> np.uint64(3)).tolist()
        cuts = lone_minima(self.tokens, list(zip(self.levels, keys, strict=True)), room)
        cuts &= (tokens >= room // 2) & (tokens <= tokens[-1] - room // 2)
        return [*np.flatnonzero(cuts[:-1]).tolist(), len(tokens) - 1]


def _inside(text: str, places: TokenPlaces, table: np.ndarray, gap: int, level: int) -> np.ndarray:
    """Returns further boundaries before one that is too far from the last: int64[3, boundaries]."""
    first, start = (int(table[row, gap - 1]) if gap else 0 for row in (0, 2))
    stop = int(table[2, gap])
    if level == TOKEN:
        tokens = np.arange(first + 1, int(table[0, gap]))
        offsets = places.stops[tokens - 1]
    else:
        offsets = np.array(ends_within(text, start, stop, level), dtype=np.int64)
        tokens = places.before(offsets)
    return np.stack([tokens, np.full(len(tokens), level), offsets])


class _Section:
    """Fills windows with what is between two boundaries.

    Args:
        ends: of the text.
        first, last: boundaries; the section begins after the one before ``first``.
        room: tokens per window.
        overlap: sentences that a window shares with the one before.
    """

    def __init__(self, ends: _Ends, first: int, last: int, room: int, overlap: int) -> None:
        self._tokens, self._levels = ends.tokens, ends.levels
        self._before, self._last = first - 1, last
        self._room, self._overlap = room, overlap

    def windows(self) -> Iterator[tuple[int, int]]:
        """Yields start and end token of each window."""
        cuts = [self._before]
        while cuts[-1] < self._last:
            cuts.append(self._next(cuts[-1]))
        self._balance(cuts)
        for begin, end in pairwise(cuts):
            own = self._token(end) - self._token(begin)
            yield self._shared_from(begin, self._room - own), self._token(end)

    def _token(self, boundary: int) -> int:
        return self._tokens[boundary] if boundary >= 0 else 0

    def _next(self, begin: int) -> int:
        """Returns where a window ends; shared sentences give way to what would be cut for them."""
        first = self._token(begin)
        farthest = self._farthest(begin, first + self._room)
        shared = first - self._shared_from(begin, self._room)
        nearer = self._farthest(begin, first + self._room - shared)
        return farthest if self._levels[nearer] > self._levels[farthest] else nearer

    def _farthest(self, begin: int, limit: int) -> int:
        """Returns the last one of the best boundaries up to a token, but at least the next boundary."""
        stop = bisect_right(self._tokens, limit, begin + 1, self._last + 1)
        if stop > self._last:
            return self._last
        return min(range(begin + 1, max(stop, begin + 2)), key=lambda at: (self._levels[at], -at))

    def _shared_from(self, begin: int, most: int) -> int:
        """Returns where shared sentences begin, at most half a window and ``most`` tokens before."""
        first = found = self._token(begin)
        at, left = begin, self._overlap
        while at >= 0 and left:
            at -= 1
            if first - self._token(at) > min(most, self._room // 2):
                break
            if at < 0 or self._levels[at] <= LINE:
                found, left = self._token(at), left - 1
        return found

    def _balance(self, cuts: list[int]) -> None:
        """Divides the last two windows evenly if the last one is less than half full."""
        if len(cuts) < 3 or self._token(cuts[-1]) - self._token(cuts[-2]) >= self._room // 2:
            return
        begin, end = self._token(cuts[-3]), self._token(cuts[-1])
        cuts[-2] = min(
            (
                at
                for at in range(cuts[-3] + 1, cuts[-1])
                if self._levels[at] <= self._levels[cuts[-2]]
                and max(self._tokens[at] - begin, end - self._tokens[at]) <= self._room
            ),
            key=lambda at: abs(2 * self._tokens[at] - begin - end),
        )

"""Throughput timeline and length histogram of a run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.store.manifest import Timeline
from beam_jobs.store.receipt import WorkInterval

# Upper bounds of the bins of text lengths in tokens: fine within the limits of common models, coarse beyond.
_BOUNDS = np.array(
    [*range(8, 129, 8), *range(144, 257, 16), *range(288, 513, 32), *range(640, 1025, 128)]
    + [2**power for power in range(11, 32)]
)
_LENGTH = "length/"
# Maximum intervals per receipt; more are merged pairwise.
_MAX_INTERVALS = 128
_MAX_BUCKETS = 120
_BUCKET_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400)


class WorkLog:
    """Records when a worker computed the rows of one file."""

    def __init__(self) -> None:
        self._intervals: list[WorkInterval] = []

    def add(self, num_documents: int, num_tokens: int, milliseconds: int) -> None:
        """Adds work that has just ended."""
        now = time.time_ns()
        self._intervals.append((now - milliseconds * 1_000_000, now, num_documents, num_tokens))
        if len(self._intervals) > _MAX_INTERVALS:
            self._intervals = [_merged(self._intervals[i : i + 2]) for i in range(0, len(self._intervals), 2)]

    @property
    def intervals(self) -> tuple[WorkInterval, ...]:
        """The intervals recorded so far, in order."""
        return tuple(self._intervals)


def _merged(intervals: Sequence[WorkInterval]) -> WorkInterval:
    return (
        min(interval[0] for interval in intervals),
        max(interval[1] for interval in intervals),
        sum(interval[2] for interval in intervals),
        sum(interval[3] for interval in intervals),
    )


def count_lengths(batch: pa.RecordBatch) -> dict[str, int]:
    """Counts the documents of a batch by their number of tokens; empty if rows have no such column.

    >>> count_lengths(pa.RecordBatch.from_pydict({"doc_id": ["a", "b", "b"], "num_tokens": [3, 9, 9]}))
    {'length/8': 1, 'length/16': 1}
    """
    if not {"doc_id", "num_tokens"} <= set(batch.schema.names) or not batch.num_rows:
        return {}
    ids = batch.column("doc_id")
    changes = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    first = np.flatnonzero(np.concatenate([[True], changes]))
    lengths = batch.column("num_tokens").to_numpy(zero_copy_only=False)
    # Rows of windows have the tokens of the window, all others those of the document.
    has_windows = "window_index" in batch.schema.names
    lengths = np.add.reduceat(lengths, first) if has_windows else lengths[first]
    bounds, counts = np.unique(_BOUNDS[np.searchsorted(_BOUNDS, lengths)], return_counts=True)
    return {f"{_LENGTH}{bound}": int(count) for bound, count in zip(bounds, counts, strict=True)}


def sum_lengths(total: Counter[str]) -> dict[int, int]:
    """Extracts the length histogram from all counts, keyed by the upper bound of each bin."""
    found = {int(name.removeprefix(_LENGTH)): n for name, n in total.items() if name.startswith(_LENGTH)}
    return dict(sorted(found.items()))


def sum_timeline(intervals: Iterable[WorkInterval]) -> Timeline | None:
    """Distributes work over at most 120 buckets of equal length; None without intervals."""
    listed = list(intervals)
    if not listed:
        return None
    begin, end = min(interval[0] for interval in listed), max(interval[1] for interval in listed)
    seconds = max((end - begin) / 1e9, 1e-3)
    width = next((w for w in _BUCKET_SECONDS if seconds / w <= _MAX_BUCKETS), seconds / _MAX_BUCKETS)
    work = np.zeros((2, int(np.ceil(seconds / width))))
    for first, last, documents, tokens in listed:
        _spread(work, (first - begin) / 1e9 / width, (last - begin) / 1e9 / width, (documents, tokens))
    return Timeline(
        started_at=datetime.fromtimestamp(begin / 1e9, UTC).isoformat(timespec="seconds"),
        bucket_seconds=float(width),
        seconds=round(seconds, 3),
        documents=tuple(float(number) for number in work[0].round(2)),
        tokens=tuple(float(number) for number in work[1].round(2)),
    )


def _spread(work: np.ndarray, first: float, last: float, amounts: tuple[int, int]) -> None:
    """Distributes amounts evenly over the buckets between two times, in units of buckets."""
    last = min(max(last, first + 1e-6), float(work.shape[1]))
    first = min(first, last - 1e-6)
    buckets = np.arange(max(int(first), 0), min(int(np.ceil(last)), work.shape[1]))
    overlap = np.minimum(buckets + 1, last) - np.maximum(buckets, first)
    share = np.clip(overlap, 0, None)
    work[:, buckets] += np.outer(amounts, share / share.sum())

"""Lengths to batches under a padded token budget."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def plan_batches(
    lengths: np.ndarray, max_batch_tokens: int, *, equal_lengths: bool = False, one_each: bool = False
) -> Iterator[np.ndarray]:
    """Groups texts of similar length so that padding stays small.

    Args:
        lengths: int[texts], tokens of each text after truncation.
        max_batch_tokens: limit on padded cells, longest x count. A text that is longer on its own still gets
            a batch, alone.
        equal_lengths: never pad, for models whose result depends on padding.
        one_each: a batch for each text, for such models where only their graph knows lengths.

    Yields:
        int64[batch], positions in ``lengths``. Each text is in exactly one batch; longest texts come first,
        so that running out of memory shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = min(start + max(max_batch_tokens // longest, 1), len(order))
        if one_each:
            stop = start + 1
        elif equal_lengths:
            stop = start + int(np.count_nonzero(lengths[order[start:stop]] == lengths[order[start]]))
        yield order[start:stop]
        start = stop


def halves(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits a batch in two, to find the text that makes it fail."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]

"""Plans batches from text lengths under a padded token budget."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# With more batches per thread, a thread that idles at the end costs less than 3 % of the time.
_MANY_BATCHES = 16
# Fewer cells than these are not worth a batch of their own.
_MIN_SHARE_CELLS = 1024
# Significant bits of the number of texts in a batch: 36 and 40, not 37. oneDNN builds kernels for every shape
# and keeps many of them per thread: hundreds of megabytes unless shapes recur.
_SIGNIFICANT_BITS = 4


def plan_batches(
    lengths: np.ndarray, max_batch_tokens: int, *, equal_lengths: bool = False, one_each: bool = False
) -> Iterator[np.ndarray]:
    """Groups texts of similar length so that padding stays small.

    Args:
        lengths: int[texts], tokens of each text after truncation.
        max_batch_tokens: limit on padded cells, longest x count. A text that exceeds it gets a batch of its
            own.
        equal_lengths: never pad, for models whose result depends on padding.
        one_each: one batch per text, for such models whose lengths only the graph knows.

    Yields:
        int64[batch], positions in ``lengths``. Each text is in exactly one batch; longest texts come first,
        so that a lack of memory shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = min(start + _round_down(max(max_batch_tokens // longest, 1)), len(order))
        if one_each:
            stop = start + 1
        elif equal_lengths:
            stop = start + int(np.count_nonzero(lengths[order[start:stop]] == lengths[order[start]]))
        yield order[start:stop]
        start = stop


def _round_down(number: int) -> int:
    """Rounds down to ``_SIGNIFICANT_BITS`` significant bits.

    >>> [_round_down(number) for number in (1, 15, 17, 39, 290)]
    [1, 15, 16, 36, 288]
    """
    shift = max(number.bit_length() - _SIGNIFICANT_BITS, 0)
    return number >> shift << shift


def balance_budget(lengths: np.ndarray, max_batch_tokens: int, parallelism: int) -> int:
    """Lowers the budget for a small number of batches so that all threads get equal work.

    On two threads, three equal batches take as long as four, and one thread idles for a quarter of it.

    Args:
        lengths: int[texts], as for ``plan_batches``.
        max_batch_tokens: limit on padded cells.
        parallelism: batches that run in parallel.

    Returns:
        A limit of at most ``max_batch_tokens``; unchanged for many batches. Little work is not split up.
    """
    num_cells = int(lengths.sum())
    if num_cells > _MANY_BATCHES * parallelism * max_batch_tokens:
        return max_batch_tokens
    num_batches = sum(1 for _ in plan_batches(lengths, max_batch_tokens))
    num_batches = -(-num_batches // parallelism) * parallelism
    even = max(num_cells // max(num_batches, 1), _MIN_SHARE_CELLS)
    # Padding and whole texts need somewhat more than an equal share.
    while even < max_batch_tokens and sum(1 for _ in plan_batches(lengths, even)) > num_batches:
        even += max(even // 100, 1)
    return min(even, max_batch_tokens)


def bisect_batch(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits a batch in two, to isolate the text that makes it fail."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]

"""What enters a dense layer when texts run through a model, and in which batches they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np

from model_bundle.text.prepared import PreparedTexts

# Padded cells per batch: inputs of a layer of 3,072 channels then take 50 MB.
_BATCH_TOKENS = 4096
# Rows of each layer's input that scales are chosen with.
KEPT_ROWS = 1024


class Observed:
    """The inputs of one dense layer.

    ``largest``: float32[inputs], the largest absolute value of each channel. ``rows``: float32[rows, inputs],
    some of them, evenly from all batches. ``num_rows``: how many there were.
    """

    def __init__(self, num_inputs: int) -> None:
        self.largest = np.zeros(num_inputs, np.float32)
        self.num_rows = 0
        self._parts: list[np.ndarray] = []

    def add(self, flat: np.ndarray, kept: int) -> None:
        """Adds the rows of a batch, of which ``kept`` are kept."""
        if len(flat):
            self.add_sample(np.abs(flat).max(axis=0), flat[:: stride(len(flat), kept)][:kept], len(flat))

    def add_sample(self, largest: np.ndarray, rows: np.ndarray, num_rows: int) -> None:
        """Adds a batch of ``num_rows``, given its largest values and the rows to keep."""
        self.largest = np.maximum(self.largest, largest)
        self.num_rows += num_rows
        self._parts.append(rows)

    def thinned(self, kept: int) -> Self:
        """Keeps at most so many rows, evenly."""
        rows = self.rows
        self._parts = [rows[:: stride(len(rows), kept)][:kept]]
        return self

    @property
    def rows(self) -> np.ndarray:
        """The kept rows."""
        return np.concatenate(self._parts)


def stride(num_rows: int, kept: int) -> int:
    """Returns the distance between the rows to keep."""
    return max(num_rows // kept, 1)


def batches_of(prepared: PreparedTexts) -> Iterator[np.ndarray]:
    """Yields the positions of texts, sorted by length, in batches of at most 4096 padded cells."""
    order = np.argsort(prepared.lengths, kind="stable")
    start = 0
    while start < len(order):
        count = 1
        while (
            start + count < len(order)
            and prepared.lengths[order[start + count]] * (count + 1) <= _BATCH_TOKENS
        ):
            count += 1
        yield order[start : start + count]
        start += count

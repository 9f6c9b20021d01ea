"""Medians with their range."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A figure measured several times."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarises one figure per round.

        Raises:
            ValueError: there are none.
        """
        return cls(statistics.median(values), min(values), max(values))


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> Spread:
    """Divides round by round, so that the machine's speed in a round cancels out.

    Raises:
        ValueError: the numbers of rounds differ, or are 0.
    """
    return Spread.of([a / b for a, b in zip(dividends, divisors, strict=True)])

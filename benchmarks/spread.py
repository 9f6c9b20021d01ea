"""Medians and what lies around them."""

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
        """Sums up one figure per round.

        Raises:
            ValueError: there are none.
        """
        return cls(statistics.median(values), min(values), max(values))


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> Spread:
    """Divides round by round: what slows the whole machine in one round cancels out.

    Raises:
        ValueError: not the same number of rounds, or none.
    """
    return Spread.of([a / b for a, b in zip(dividends, divisors, strict=True)])

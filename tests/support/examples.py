"""How many examples Hypothesis draws: all of them at night, a third in the fast suite."""

from __future__ import annotations

import os

NIGHTLY = "TESTS_NIGHTLY"


def examples(number: int) -> int:
    """Returns how many of ``number`` examples this run draws: at least ten.

    ``.ci/run slow`` sets the variable that asks for all of them.
    """
    return number if os.environ.get(NIGHTLY) else min(number, max(10, number // 3))

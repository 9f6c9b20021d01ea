"""Whether a model gains from integer products on this processor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model_bundle.bundle.specs import Precision
from model_bundle.errors import SettingsError

_ROUNDS = 5

Call = Callable[[Mapping[str, Any]], object]


def measure_gain(
    name: str,
    precision: Precision,
    calls: Sequence[Call],
    fed: Mapping[str, Any],
    min_gain: float,
    clock: Callable[[], float] = time.process_time,
) -> str:
    """Times one batch in float32 and in integers, in turns, by processor time.

    Args:
        name: the model's.
        precision: the one with integer products.
        calls: the model in float32 and in that.
        fed: the batch.
        min_gain: how many times as fast integers must at least be.
        clock: seconds; those of the processor, since others may use the machine.

    Returns:
        The result in words.

    Raises:
        SettingsError: the gain is below that; the message has the times.
    """
    times: list[list[float]] = [[], []]
    for _ in range(_ROUNDS + 1):
        for call, found in zip(calls, times, strict=True):
            started = clock()
            call(fed)
            found.append(clock() - started)
    slow, fast = (statistics.median(found[1:]) for found in times)
    figures = f"{slow * 1e3:.1f} ms in float32, {fast * 1e3:.1f} ms in {precision}: 1/{slow / fast:.2f}"
    if slow < min_gain * fast:
        raise SettingsError(
            f"{precision} gains too little for {name}: a batch takes {figures}; expected at least "
            f"{min_gain}. Its products with constant weights are few or small. Use --precision float32."
        )
    return f"a batch takes {figures}"

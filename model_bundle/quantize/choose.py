"""Chooses the scales of each dense layer by the error that they leave in its output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model_bundle.builders.graphs.int8_plan import ChannelGroup, Int8Product
from model_bundle.quantize.observed import Observed
from model_bundle.runtime.int8_products import LARGEST, scales_of

# How much of a channel's range is moved from the inputs into the kernel; 0 leaves both alone.
# Source: SmoothQuant, section 4, arXiv:2211.10438.
_EXPONENTS = (0.0, 0.5, 0.6, 0.7, 0.8)
# Other texts reach a little beyond what was seen. Measured with MiniLM: docs/decisions/int8.md.
_MARGIN = 1.05
# Groups of a feed-forward layer's inner channels, each a multiple of this many: smaller ones are slow.
_GROUP_CHANNELS = 64
_MAX_GROUPS = 3
# One more group must lower the error at least to this share.
_WORTH_A_GROUP = 0.9
_TINY = 1e-3
# A channel that was always 0 is taken to be as wide as this share of the others at least.
_UNSEEN = 0.9


def choose_product(
    kernel: np.ndarray, inputs: Observed, largest_weight: int = LARGEST, inner: str | None = None
) -> Int8Product:
    """Plans a dense layer.

    Args:
        kernel: float32[inputs, outputs].
        inputs: what entered the layer.
        largest_weight: what the largest weight of a column is rounded to: 127, or 64 for 7 bits.
        inner: the layer whose activation's output these inputs are, if it can quantise them.
    """
    if inner is None:
        return _plain(kernel, inputs, largest_weight)
    return replace(_outer(kernel, inputs, largest_weight), inner=inner)


def _plain(kernel: np.ndarray, inputs: Observed, largest_weight: int) -> Int8Product:
    """Tries each exponent of smoothing and keeps the one with the least error."""
    rows, ranges = inputs.rows, _ranges(inputs.largest)
    expected = rows @ kernel
    found = []
    for exponent in _EXPONENTS:
        factors = _smoothing(ranges, kernel, exponent)
        smoothed = kernel / factors[:, np.newaxis]
        largest = max(float((ranges * factors).max()), _TINY) * _MARGIN
        rounded = _round(rows * factors, largest) @ _rounded_kernel(smoothed, largest_weight)
        kept = None if exponent == 0.0 else factors
        found.append(Int8Product(smoothed, largest, _error(rounded, expected), kept))
    return min(found, key=lambda product: product.error)


def _ranges(largest: np.ndarray) -> np.ndarray:
    """Returns the range of each channel: float32[inputs]; that of a wide one if it was always 0.

    Other texts may use it, such as a word of its own in a bag of words: with a range of almost nothing, what
    it then holds would be clipped away, and no text that was measured would show it.
    """
    seen = largest[largest > 0]
    if not seen.size:
        return largest
    ranges: np.ndarray = np.where(largest > 0, largest, np.quantile(seen, _UNSEEN).astype(np.float32))
    return ranges


def _smoothing(largest: np.ndarray, kernel: np.ndarray, exponent: float) -> np.ndarray:
    """Returns what inputs are multiplied by: float32[inputs], 1 in the geometric mean."""
    if exponent == 0.0:
        return np.ones_like(largest)
    weight = np.maximum(np.abs(kernel).max(axis=1), _TINY)
    logs = (1 - exponent) * np.log(weight) - exponent * np.log(np.maximum(largest, _TINY))
    factors: np.ndarray = np.exp(logs - logs.mean()).astype(np.float32)
    return factors


def _outer(kernel: np.ndarray, inputs: Observed, largest_weight: int) -> Int8Product:
    """Splits channels into groups by range: after an activation, smoothing cannot be applied for free."""
    rows = inputs.rows
    expected = rows @ kernel
    best: Int8Product | None = None
    for count in range(1, _MAX_GROUPS + 1):
        groups = split_channels(_ranges(inputs.largest), (kernel**2).sum(axis=1), count)
        rounded = sum(
            _round(rows[:, g.channels], g.largest) @ _rounded_kernel(kernel[g.channels], largest_weight)
            for g in groups
        )
        product = Int8Product(kernel, max(g.largest for g in groups), _error(rounded, expected), None, groups)
        if best is None or product.error < best.error * _WORTH_A_GROUP:
            best = product
    assert best is not None
    return best


def split_channels(largest: np.ndarray, weight: np.ndarray, count: int) -> tuple[ChannelGroup, ...]:
    """Splits channels into at most ``count`` groups with the least total rounding noise.

    Args:
        largest: float32[channels], the largest absolute value of each.
        weight: float32[channels], how much noise in a channel counts.
        count: groups wanted; fewer come back where there are fewer blocks of 64 channels.
    """
    order = np.argsort(largest, kind="stable")
    blocks = np.array_split(order, max(len(order) // _GROUP_CHANNELS, 1))
    tops = [float(largest[block].max()) for block in blocks]
    sums = np.concatenate([[0.0], np.cumsum([float(weight[block].sum()) for block in blocks])])
    # cost, start of the last group: of the first `end` blocks in so many groups.
    table: dict[tuple[int, int], tuple[float, int]] = {(0, 0): (0.0, 0)}
    count = min(count, len(blocks))
    for groups in range(1, count + 1):
        for end in range(groups, len(blocks) + 1):
            table[groups, end] = min(
                (table[groups - 1, start][0] + (sums[end] - sums[start]) * tops[end - 1] ** 2, start)
                for start in range(groups - 1, end)
                if (groups - 1, start) in table
            )
    found, end = [], len(blocks)
    for groups in range(count, 0, -1):
        start = table[groups, end][1]
        channels = np.sort(np.concatenate(blocks[start:end]))
        found.append(ChannelGroup(channels, max(tops[end - 1], _TINY) * _MARGIN))
        end = start
    return tuple(found[::-1])


def _round(values: np.ndarray, largest: float) -> np.ndarray:
    step = np.float32(largest / LARGEST)
    rounded: np.ndarray = np.clip(np.rint(values / step), -LARGEST, LARGEST) * step
    return rounded


def _rounded_kernel(kernel: np.ndarray, largest_weight: int) -> np.ndarray:
    steps = scales_of(kernel) / np.float32(largest_weight)
    rounded: np.ndarray = np.rint(kernel / steps) * steps
    return rounded


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(((found - expected) ** 2).sum() / max(float((expected**2).sum()), 1e-30))

"""How a dense layer is computed in int8, as data. Without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ChannelGroup:
    """Input channels of a product that share a range: int[channels], and their largest absolute value."""

    channels: np.ndarray
    largest: float


@dataclass(frozen=True)
class Int8Product:
    """One dense layer.

    ``kernel``: float32[inputs, outputs], smoothing included, not yet rounded. ``largest``: inputs are
    rounded to 255 steps between -largest and largest. ``smoothing``: float32[inputs], what inputs are
    multiplied by before; None for nothing. ``groups``: for the second product of a feed-forward layer, whose
    input is quantised by the first, named ``inner``, a group of channels at a time. ``error``: square of the
    difference that rounding makes to the output, relative to that of the output.
    """

    kernel: np.ndarray
    largest: float
    error: float
    smoothing: np.ndarray | None = None
    groups: tuple[ChannelGroup, ...] = ()
    inner: str | None = None

"""Weights in files: what every format is opened as, and the one dtype they are read in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model_bundle.errors import SourceError


@dataclass(frozen=True)
class StoredWeights:
    """Weights in files, not yet in memory.

    ``shapes`` is by stored name. ``read`` returns one weight as float32 in its stored shape, converted from
    other precisions. ``files`` contain them. ``format`` names the file format, for messages.
    """

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    files: tuple[Path, ...]
    format: str

    def inside(self, scope: str) -> StoredWeights:
        """Returns the same weights with a prefix removed from those names that have it."""
        if not scope:
            return self
        stored = {name.removeprefix(scope): name for name in sorted(self.shapes)}
        if len(stored) < len(self.shapes):
            return self
        shapes = {name: self.shapes[old] for name, old in stored.items()}
        return replace(self, shapes=shapes, read=lambda name: self.read(stored[name]))


def as_float32(name: str, array: np.ndarray, where: Path) -> np.ndarray:
    """Converts half and double precision to float32.

    Raises:
        SourceError: the weight is not floating-point (quantised), or contains NaN or infinity.
    """
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise SourceError(
            f"{where}: {name} is stored as {array.dtype}; quantised weights are not supported. "
            "Build from the original, unquantised model."
        )
    widened = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(widened).all():
        raise SourceError(f"{where}: {name} contains NaN or infinity: the model is broken. Export it again.")
    return widened

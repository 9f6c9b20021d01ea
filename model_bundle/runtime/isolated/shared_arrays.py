"""Passes arrays between two processes through shared memory, without pickling."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Bytes; vector instructions are faster on aligned data.
_ALIGNMENT = 64


class Placed(NamedTuple):
    """The location of an array: an offset in the memory, or the array itself if it has Python objects."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    inline: np.ndarray | None = None


class SharedArrays:
    """One side of memory shared by two processes; it grows, and has no name that could be left behind.

    Args:
        descriptor: of the memory, see ``new_descriptor``; open in both processes. The caller closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    def write(self, arrays: Mapping[str, np.ndarray]) -> list[Placed]:
        """Copies arrays into the memory, overwriting its content."""
        placed, size = _place(arrays)
        if size:
            memory = self._mapped(size)
            for entry in placed:
                if entry.inline is None:
                    _view(memory, entry)[...] = arrays[entry.name]
        return placed

    def views(self, placed: list[Placed]) -> dict[str, np.ndarray]:
        """Returns views of the arrays; the next ``write`` of the other side changes them."""
        size = max((_end(entry) for entry in placed), default=0)
        memory = self._mapped(size) if size else None
        found: dict[str, np.ndarray] = {}
        for entry in placed:
            if entry.inline is not None:
                found[entry.name] = entry.inline
            elif memory is not None:
                found[entry.name] = _view(memory, entry)
        return found

    def _mapped(self, size: int) -> mmap.mmap:
        """Maps at least ``size`` bytes of the memory; a smaller mapping is released with its last view."""
        if self._memory is None or len(self._memory) < size:
            there = os.fstat(self._descriptor).st_size
            if there < size:
                there = max(2 * there, size)
                os.ftruncate(self._descriptor, there)
            self._memory = mmap.mmap(self._descriptor, there)
        return self._memory


def new_descriptor() -> int:
    """Creates memory that exists as long as a process has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("model-arrays")
    with tempfile.TemporaryFile() as file:  # macOS: an unnamed file
        return os.dup(file.fileno())


def _place(arrays: Mapping[str, np.ndarray]) -> tuple[list[Placed], int]:
    placed, size = [], 0
    for name, array in arrays.items():
        if array.dtype.hasobject or array.nbytes == 0:
            placed.append(Placed(name, array.dtype.str, array.shape, 0, array))
            continue
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        placed.append(Placed(name, array.dtype.str, array.shape, size))
        size += array.nbytes
    return placed, size


def _end(entry: Placed) -> int:
    if entry.inline is not None:
        return 0
    return entry.offset + np.dtype(entry.dtype).itemsize * int(np.prod(entry.shape))


def _view(memory: mmap.mmap, entry: Placed) -> np.ndarray:
    return np.ndarray(entry.shape, entry.dtype, buffer=memory, offset=entry.offset)

"""A memory-mapped index from digests to row locations, for workers on the same machine.

Only the pages in use take memory; on disk a document takes 60 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

DIGEST_BYTES = 32
_KEYS, _DIGESTS, _PLACES, _FILES = "keys.npy", "digests.npy", "places.npy", "files.json"
# Rows moved at a time while sorting, to bound memory.
_CHUNK = 1 << 20
# Smaller files are read instead of mapped; empty ones cannot be mapped.
_SMALL_BYTES = 4096


class DigestIndex:
    """Finds entries by their sha256.

    Args:
        folder: folder written by ``IndexWriter``.

    Attributes:
        files: paths, which the first number of a place refers to.
        places: int32[entries, width], the stored numbers.
    """

    def __init__(self, folder: str) -> None:
        root = Path(folder)
        self.files: tuple[str, ...] = tuple(json.loads((root / _FILES).read_text(encoding="utf-8")))
        self._keys, self._digests, self.places = (_loaded(root / n) for n in (_KEYS, _DIGESTS, _PLACES))

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, digests: np.ndarray) -> np.ndarray:
        """Looks digests up.

        Args:
            digests: uint8[wanted, 32].

        Returns:
            int64[wanted], the position of the entry; -1 if there is none.
        """
        wanted = keys_of(digests)
        found = np.full(len(wanted), -1, dtype=np.int64)
        at = np.searchsorted(self._keys, wanted)
        open_ = np.arange(len(wanted))
        while len(open_):
            open_ = open_[at[open_] < len(self)]
            open_ = open_[self._keys[at[open_]] == wanted[open_]]
            equal = (self._digests[at[open_]] == digests[open_]).all(axis=1)
            found[open_[equal]] = at[open_[equal]]
            open_ = open_[~equal]  # another digest with the same first eight bytes
            at[open_] += 1
        return found


class IndexWriter:
    """Collects entries in files and sorts them at the end.

    Args:
        folder: output folder, which is created.
        width: numbers stored per digest.
    """

    def __init__(self, folder: str, width: int) -> None:
        self._root = Path(folder)
        self._root.mkdir(parents=True, exist_ok=True)
        self._width = width
        self._number = 0
        self._raw = [(self._root / f"{name}.raw").open("wb") for name in (_DIGESTS, _PLACES)]

    def __enter__(self) -> Self:
        """Returns the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes and removes the unsorted files."""
        for stream in self._raw:
            stream.close()
            Path(stream.name).unlink(missing_ok=True)

    def add(self, digests: np.ndarray, places: np.ndarray) -> None:
        """Adds uint8[entries, 32] and int32[entries, width]."""
        for stream, array, dtype in zip(self._raw, (digests, places), (np.uint8, np.int32), strict=True):
            stream.write(np.ascontiguousarray(array, dtype=dtype).tobytes())
        self._number += len(digests)

    def finish(self, files: Iterable[str] = ()) -> DigestIndex:
        """Sorts the entries and writes the index; the first of several entries with one digest is kept."""
        for stream in self._raw:
            stream.flush()
        digests = _mapped(self._raw[0].name, np.uint8, DIGEST_BYTES, self._number)
        places = _mapped(self._raw[1].name, np.int32, self._width, self._number)
        keys = np.concatenate([np.zeros(0, np.uint64), *(keys_of(part) for part in _chunks(digests))])
        order = np.argsort(keys, kind="stable")
        order = order[_is_first(keys, digests, order)]
        _write(self._root / _KEYS, keys, order)
        _write(self._root / _DIGESTS, digests, order)
        _write(self._root / _PLACES, places, order)
        (self._root / _FILES).write_text(json.dumps(list(files)), encoding="utf-8")
        return DigestIndex(str(self._root))


def keys_of(digests: np.ndarray) -> np.ndarray:
    """Returns the first eight bytes of uint8[n, 32] as uint64[n], which sort as the digests do."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").ravel().astype(np.uint64)


def from_hex(column: bytes | memoryview, number: int) -> np.ndarray:
    """Parses concatenated hexadecimal digests to uint8[number, 32].

    Raises:
        ValueError: not hexadecimal, or another number of digits.
    """
    return np.frombuffer(bytes.fromhex(bytes(column).decode("ascii")), np.uint8).reshape(number, DIGEST_BYTES)


def _loaded(path: Path) -> np.ndarray:
    """Maps an array, or reads it if it is small."""
    array: np.ndarray = np.load(path) if path.stat().st_size < _SMALL_BYTES else np.load(path, mmap_mode="r")
    return array


def _mapped(path: str, dtype: type, width: int, number: int) -> np.ndarray:
    if not number * width:
        return np.zeros((number, width), dtype)
    return np.memmap(path, dtype, mode="r").reshape(-1, width)


def _chunks(array: np.ndarray) -> list[np.ndarray]:
    return [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]


def _is_first(keys: np.ndarray, digests: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Whether each entry, in sorted order, is the first with its digest: bool[entries]."""
    first = np.ones(len(order), dtype=bool)
    ordered = keys[order]
    same_key = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    for part in _chunks(same_key):
        first[part] = (digests[order[part]] != digests[order[part - 1]]).any(axis=1)
    return first


def _write(path: Path, array: np.ndarray, order: np.ndarray) -> None:
    shape = (len(order), *array.shape[1:])
    if not len(order) * array[:1].size:
        np.save(path, np.zeros(shape, array.dtype))
        return
    out = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
    for start in range(0, len(order), _CHUNK):
        out[start : start + _CHUNK] = array[order[start : start + _CHUNK]]
    out.flush()

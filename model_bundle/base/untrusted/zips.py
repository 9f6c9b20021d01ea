"""Opens a zip file of somebody else, once its entries have been looked at: the only place that opens one."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from model_bundle.errors import SourceError

# Weights hardly compress, texts and graphs do.
_MAX_EXPANSION = 32
_ALWAYS_ALLOWED_BYTES = 256_000_000
_NUM_LISTED = 4


@contextmanager
def open_zip(file: Path | IO[bytes], where: str) -> Iterator[zipfile.ZipFile]:
    """Opens a zip file to read it. An entry cannot unpack to more bytes than it states, or reading fails.

    Args:
        file: a path, or a stream that can seek.
        where: what to call it in errors.

    Raises:
        SourceError: it is incomplete, an entry is a link or outside the zip, several have one name, or it
            unpacks to many times its size.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SourceError(f"{where} is an incomplete zip file ({error}). Copy it again.") from error
    with archive:
        _check(archive.infolist(), where)
        yield archive


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an ``.npz`` file, without pickled objects.

    Raises:
        SourceError: see ``open_zip``.
        ValueError: an entry is damaged, or no array.
    """
    with open_zip(path, str(path)):
        pass
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def unpacked_limit(num_bytes: int) -> int:
    """Returns how many bytes an archive of a size may unpack to."""
    return _ALWAYS_ALLOWED_BYTES + _MAX_EXPANSION * num_bytes


def _check(entries: Sequence[zipfile.ZipInfo], where: str) -> None:
    names = [entry.filename for entry in entries]
    outside = [name for name in names if name.startswith("/") or {"..", "\\"} & {*name.split("/"), *name}]
    links = [entry.filename for entry in entries if stat.S_ISLNK(entry.external_attr >> 16)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    for found, fault in (
        (outside, "point outside it"),
        (links, "are links"),
        (twice, "are there more than once"),
    ):
        if found:
            listed = ", ".join(found[:_NUM_LISTED])
            raise SourceError(f"{where} has entries that {fault}: {listed}. It was not unpacked.")
    unpacked, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    if unpacked > unpacked_limit(packed):
        raise SourceError(
            f"{where} unpacks from {packed} bytes to {unpacked}, expected at most {unpacked_limit(packed)}. "
            "It was not unpacked. If its content is right, pack it again without compression."
        )

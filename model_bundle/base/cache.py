"""The download cache, shared by all processes of a user."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_bundle.errors import SourceError

CACHE_VARIABLE = "BEAM_JOBS_CACHE"


def cache_dir() -> Path:
    """Returns the cache: ``$BEAM_JOBS_CACHE``, else ``beam-embedding-jobs`` in the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "beam-embedding-jobs"


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Holds the cache's lock of this name; others wait. The system releases it if this process dies.

    Yields:
        The cache folder, created if needed.

    Raises:
        SourceError: the cache cannot be written.
    """
    folder = cache_dir()
    try:
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        stream = (folder / "locks" / f"{name}.lock").open("w")
    except OSError as error:
        raise SourceError(
            f"The cache {folder} cannot be written ({error.strerror}). "
            f"Set {CACHE_VARIABLE} to a folder that can."
        ) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield folder


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder inside ``folder``: a rename out of it is atomic. Removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def clear_partial(folder: Path) -> None:
    """Removes leftovers of killed processes. The caller must hold the folder's lock."""
    for path in folder.glob(".partial-*"):
        shutil.rmtree(path, ignore_errors=True)

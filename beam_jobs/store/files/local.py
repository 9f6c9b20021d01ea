"""Files on this machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if it does not exist."""
    try:
        return os.path.getsize(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def list_files(folder: str) -> dict[str, int]:
    """Returns the files directly in a folder and their sizes in bytes; empty if it does not exist."""
    if not os.path.isdir(folder):
        return {}
    return {entry.path: entry.stat().st_size for entry in os.scandir(folder) if not entry.is_dir()}


def list_below(root: str, *parts: str) -> list[str]:
    """Returns the names of the folders directly in ``root`` that contain the file ``parts``."""
    if not os.path.isdir(root):
        return []
    return [e.name for e in os.scandir(root) if os.path.exists(os.path.join(e.path, *parts))]


def read(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_file(path: str) -> Any:
    """Opens a file for reading."""
    return Path(path).open("rb")


def open_new(path: str) -> Any:
    """Opens a file for writing and creates its folders."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return Path(path).open("wb")


def create(path: str, data: bytes) -> bool:
    """Creates a file atomically; False if it exists already. One of several callers wins."""
    staged = _staged(path, data)
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_exclusively(path, data)  # a file system without hard links
    finally:
        os.unlink(staged)
    return True


def replace(path: str, data: bytes) -> None:
    """Replaces a small file atomically: readers see the old or the new content, never a part."""
    staged = _staged(path, data)
    with _removed_on_error(staged):
        os.replace(staged, path)


def update(path: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    """Replaces a file by what is made of it, under a lock of its folder; always succeeds."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with _locked(folder):
        new = change(read(path))
        if new is not None:
            replace(path, new)
    return True


def move(source: str, target: str) -> None:
    """Moves a file in one step and creates the target's folder.

    Raises:
        FileNotFoundError: there is no source any more.
    """
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(source, target)


def delete(path: str) -> None:
    """Removes a file if it exists."""
    Path(path).unlink(missing_ok=True)


def delete_folder(path: str) -> None:
    """Removes a folder and its contents if it exists."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def check_conditions(_: str) -> None:
    """Does nothing: a link is created once."""


def _staged(path: str, data: bytes) -> str:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    staged = os.path.join(folder, f".{os.path.basename(path)}-{uuid.uuid4().hex}")
    with open(staged, "xb") as stream, _removed_on_error(staged):
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return staged


@contextlib.contextmanager
def _removed_on_error(path: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.unlink(path)
        raise


def _create_exclusively(path: str, data: bytes) -> bool:
    try:
        with open(path, "xb") as stream, _removed_on_error(path):
            stream.write(data)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Holds a lock of a local folder, which ends with the process; leaves no file behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a network file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

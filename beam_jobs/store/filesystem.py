"""The file system of jobs: one set of functions for local and remote files, see ``files``."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beam_jobs.store.files.kinds import listed, readable, scheme_of, writable
from model_bundle.base.objects.store import Entry

_BLOCK_BYTES = 1 << 22


def join(root: str, *parts: str) -> str:
    """Joins a path below a root, local or remote."""
    return (root if root.endswith("/") else f"{root}/") + "/".join(parts)


def base_name(path: str) -> str:
    """Returns the last part of a path, local or remote."""
    return path.rpartition("/")[2]


def is_local(path: str) -> bool:
    """Whether a path is one on this machine."""
    return scheme_of(path) is None


def absolute_path(path: str) -> str:
    """Returns a local path made absolute, so that it does not depend on the working directory of a worker."""
    return str(Path(path).absolute()) if is_local(path) else path


def exists(path: str) -> bool:
    """Whether a file exists; a local folder counts as one."""
    return size_of(path) is not None


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if it does not exist."""
    return readable(path).size_of(path)


def list_files(folder: str) -> dict[str, int]:
    """Returns the files directly in a folder and their sizes in bytes; empty if it does not exist.

    Needs one listing; thousands of requests for single files take minutes on remote storage.
    """
    return writable(folder).list_files(folder)


def list_below(root: str, *parts: str) -> list[str]:
    """Returns the sorted names of the folders directly in ``root`` that contain the file ``parts``."""
    return sorted(writable(root).list_below(root, *parts))


def list_remote(prefix: str) -> list[Entry]:
    """Lists all remote files whose path begins with a prefix, in no order."""
    return listed(prefix).list_prefix(prefix)


def read_bytes(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    return readable(path).read(path)


def open_file(path: str) -> Any:
    """Opens a file for reading its stored bytes; the stream is seekable."""
    return readable(path).open_file(path)


def sha256_of(path: str) -> str:
    """Computes a file's digest, block by block.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    digest = hashlib.sha256()
    with open_file(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def open_new(path: str) -> Any:
    """Opens a file for writing uncompressed bytes and creates its folders."""
    return writable(path).open_new(path)


def close_safely(stream: Any, path: str) -> None:
    """Closes a stream from ``open_new`` durably: a local file survives a crash of the machine."""
    if is_local(path):
        stream.flush()
        os.fsync(stream.fileno())
    stream.close()


def check_conditions(folder: str) -> None:
    """Rejects storage on which two callers of ``create_if_absent`` could both succeed.

    Raises:
        UsageError: with what it did.
    """
    writable(folder).check_conditions(folder)


def create_if_absent(path: str, data: bytes) -> bool:
    """Creates a file atomically; False if it exists already. One of several callers wins.

    Remote storage may say so of a file that this call created, if the first answer was lost.
    """
    return writable(path).create(path, data)


def replace(path: str, data: bytes) -> None:
    """Replaces a small file atomically: readers see the old or the new content, never a part."""
    writable(path).replace(path, data)


def update(path: str, change: Callable[[bytes | None], bytes | None]) -> None:
    """Replaces a small file by what is made of its content, with no other update in between.

    A remote file's version is the condition, and the change is made again if it was replaced. Local files are
    changed under a lock of their folder; a file system without locks leaves a small window.

    Args:
        path: the file.
        change: receives its content, None if there is none, and returns the new one; None changes nothing.
    """
    while not writable(path).update(path, change):
        pass


def move(source: str, target: str, size: int) -> None:
    """Moves a file to its final name; does nothing if an earlier attempt has moved it.

    While the source exists, a file at the target is older and is replaced, even if it has the same size.

    Raises:
        FileNotFoundError: neither source nor target exists with its full size.
    """
    found = size_of(source)
    if found == size:
        with contextlib.suppress(FileNotFoundError):  # a parallel attempt was faster
            _rename(source, target)
    elif found is not None or size_of(target) != size:
        raise FileNotFoundError(
            f"Expected {source} with {size} bytes, found {found}; it was removed or changed during the run. "
            "Start the run again."
        )


def delete(path: str) -> None:
    """Removes a file if it exists."""
    writable(path).delete(path)


def delete_folder(path: str) -> None:
    """Removes a folder and its contents if it exists."""
    writable(path).delete_folder(path)


def _rename(source: str, target: str) -> None:
    writable(source).move(source, target)

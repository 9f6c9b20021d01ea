"""File operations for a safe commit that Beam's file systems lack, local and on gs://.

Local paths are taken literally; Beam would treat ``*``, ``?`` and ``[`` in them as wildcards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from beam_jobs.store.objects import create_object_if_absent, update_object

_GS = "gs://"
_BLOCK_BYTES = 1 << 22
# CompressionTypes.UNCOMPRESSED of Beam.
_UNCOMPRESSED = "uncompressed"


def join(root: str, *parts: str) -> str:
    """Joins a path below a root, local or remote."""
    return (root if root.endswith("/") else f"{root}/") + "/".join(parts)


def base_name(path: str) -> str:
    """Returns the last part of a path, local or remote."""
    return path.rpartition("/")[2]


def exists(path: str) -> bool:
    """Whether a file (or local folder) exists."""
    return bool(_beam().exists(path)) if path.startswith(_GS) else os.path.exists(path)


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if it does not exist."""
    if path.startswith(_GS):
        matches = _beam().match([_literal(path)])[0].metadata_list
        return int(matches[0].size_in_bytes) if matches else None
    try:
        return os.path.getsize(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def list_files(folder: str) -> dict[str, int]:
    """Returns the files directly in a folder and their sizes in bytes; empty if it does not exist.

    Needs one listing; thousands of requests for single files take minutes on remote storage.
    """
    if folder.startswith(_GS):
        found = _beam().match([join(_literal(folder), "*")])[0].metadata_list
        return {metadata.path: int(metadata.size_in_bytes) for metadata in found}
    if not os.path.isdir(folder):
        return {}
    return {entry.path: entry.stat().st_size for entry in os.scandir(folder) if not entry.is_dir()}


def list_below(root: str, *parts: str) -> list[str]:
    """Returns the names of the folders directly in ``root`` that contain the file ``parts``."""
    if root.startswith(_GS):
        found = _beam().match([join(_literal(root), "*", *parts)])[0].metadata_list
        return sorted(metadata.path.removeprefix(f"{root.rstrip('/')}/").split("/")[0] for metadata in found)
    if not os.path.isdir(root):
        return []
    return sorted(e.name for e in os.scandir(root) if os.path.exists(os.path.join(e.path, *parts)))


def read_bytes(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    if path.startswith(_GS):
        if not exists(path):
            return None
        with open_file(path) as stream:
            return bytes(stream.read())
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_file(path: str) -> Any:
    """Opens a file for reading its stored bytes; the stream is seekable."""
    return (
        _beam().open(path, compression_type=_UNCOMPRESSED) if path.startswith(_GS) else Path(path).open("rb")
    )


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
    make_folder(os.path.dirname(path))
    return _beam().create(path, compression_type=_UNCOMPRESSED)


def close_safely(stream: Any, path: str) -> None:
    """Closes a stream from ``open_new`` durably: a local file survives a crash of the machine."""
    if not path.startswith(_GS):
        stream.flush()
        os.fsync(stream.fileno())
    stream.close()


def make_folder(path: str) -> None:
    """Creates a local folder; does nothing on gs://."""
    if not path.startswith(_GS):
        os.makedirs(path, exist_ok=True)


def create_if_absent(path: str, data: bytes) -> bool:
    """Creates a file atomically; False if it exists already. One of several callers wins."""
    if path.startswith(_GS):
        return create_object_if_absent(path, data)
    staged = _staged(path, data)
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
            raise
        return _create_exclusively(path, data)  # a file system without hard links
    finally:
        os.unlink(staged)
    return True


def replace(path: str, data: bytes) -> None:
    """Replaces a small file atomically: readers see the old or the new content, never a part."""
    if path.startswith(_GS):
        with open_new(path) as stream:  # an object appears when its upload is complete
            stream.write(data)
        return
    staged = _staged(path, data)
    with _removed_on_error(staged):
        os.replace(staged, path)


def update(path: str, change: Callable[[bytes | None], bytes | None]) -> None:
    """Replaces a small file by what is made of its content, with no other update in between.

    On gs:// the object's generation is the condition, and the change is made again if it was replaced. Local
    files are changed under a lock of their folder; a file system without locks leaves a small window.

    Args:
        path: the file.
        change: receives its content, None if there is none, and returns the new one; None changes nothing.
    """
    if path.startswith(_GS):
        while not update_object(path, change):
            pass
        return
    folder = os.path.dirname(path)
    make_folder(folder)
    with _locked(folder):
        new = change(read_bytes(path))
        if new is not None:
            replace(path, new)


def move(source: str, target: str, size: int) -> None:
    """Moves a file to its final name; does nothing if an earlier attempt has moved it.

    While the source exists, a file at the target is older and is replaced, even if it has the same size.

    Raises:
        FileNotFoundError: neither source nor target exists with its full size.
    """
    found = size_of(source)
    if found == size:
        make_folder(os.path.dirname(target))
        with contextlib.suppress(FileNotFoundError):  # a parallel attempt was faster
            _rename(source, target)
    elif found is not None or size_of(target) != size:
        raise FileNotFoundError(
            f"Expected {source} with {size} bytes, found {found}; it was removed or changed during the run. "
            "Start the run again."
        )


def delete(path: str) -> None:
    """Removes a file if it exists."""
    if path.startswith(_GS):
        _beam().delete([_literal(path)])
    else:
        Path(path).unlink(missing_ok=True)


def delete_folder(path: str) -> None:
    """Removes a folder and its contents if it exists."""
    if path.startswith(_GS):
        _beam().delete([f"{path}/"])
    else:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _beam() -> Any:
    """Imports Beam's file systems on first use: local runs can be read without them."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _rename(source: str, target: str) -> None:
    if not source.startswith(_GS):
        os.replace(source, target)
        return
    from apache_beam.io.filesystem import BeamIOError

    try:
        _beam().rename([source], [target])
    except BeamIOError:
        if size_of(source) is not None:
            raise


def _staged(path: str, data: bytes) -> str:
    make_folder(os.path.dirname(path))
    staged = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}-{uuid.uuid4().hex}")
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


def _literal(path: str) -> str:
    """Escapes the wildcards of Beam's patterns: ``*``, ``?`` and ``[``."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def absolute_path(path: str) -> str:
    """Returns a local path made absolute, so that it does not depend on the working directory of a worker."""
    return path if "://" in path else str(Path(path).absolute())

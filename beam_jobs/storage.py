"""Files of a run, local or in a bucket: what Beam's file systems lack for a safe commit."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

_GS = "gs://"


def join(root: str, *parts: str) -> str:
    """Joins a path below a root, local or remote."""
    return FileSystems.join(root, *parts)


def exists(path: str) -> bool:
    """Tells whether a file (or local folder) is there."""
    return bool(FileSystems.exists(path))


def size_of(path: str) -> int | None:
    """Gives a file's size in bytes; None if there is no such file."""
    matches = FileSystems.match([_literal(path)])[0].metadata_list
    return int(matches[0].size_in_bytes) if matches else None


def list_files(folder: str) -> list[str]:
    """Lists the files directly in a folder; none if it is not there."""
    pattern = join(_literal(folder), "*")
    return sorted(metadata.path for metadata in FileSystems.match([pattern])[0].metadata_list)


def read_bytes(path: str) -> bytes | None:
    """Reads a small file; None if it is not there."""
    if not exists(path):
        return None
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        return bytes(stream.read())


def open_new(path: str) -> Any:
    """Opens a file for writing; folders are made. Bytes are written as they are."""
    make_folder(os.path.dirname(path))
    return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def make_folder(path: str) -> None:
    """Makes a local folder; buckets have none."""
    if not path.startswith(_GS):
        os.makedirs(path, exist_ok=True)


def create_if_absent(path: str, data: bytes) -> bool:
    """Creates a file whole, or not at all: False if it is there already. One of several callers wins."""
    if path.startswith(_GS):
        return _create_object_if_absent(path, data)
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
    """Writes a small file so that readers see the old or the new content, never a part."""
    if path.startswith(_GS):
        with open_new(path) as stream:  # an object appears when its upload is complete
            stream.write(data)
    else:
        os.replace(_staged(path, data), path)


def move(source: str, target: str, size: int) -> None:
    """Moves a file to its final name; does nothing where an earlier try has done it.

    Raises:
        FileNotFoundError: neither the source nor a complete target is there.
    """
    if size_of(target) == size:
        return
    if size_of(source) != size:
        raise FileNotFoundError(
            f"Expected {source} with {size} bytes, found {size_of(source)}; it was removed or changed while "
            "the run was going on. Start the run again."
        )
    make_folder(os.path.dirname(target))
    if source.startswith(_GS):
        FileSystems.rename([source], [target])
    else:
        os.replace(source, target)


def delete(path: str) -> None:
    """Removes a file or folder with what is in it; it may be gone already."""
    with contextlib.suppress(BeamIOError, FileNotFoundError):
        FileSystems.delete([path])


def _staged(path: str, data: bytes) -> str:
    make_folder(os.path.dirname(path))
    staged = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}-{uuid.uuid4().hex}")
    with open(staged, "xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return staged


def _create_exclusively(path: str, data: bytes) -> bool:
    try:
        with open(path, "xb") as stream:
            stream.write(data)
    except FileExistsError:
        return False
    return True


def _create_object_if_absent(path: str, data: bytes) -> bool:
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud import storage

    bucket, name = path.removeprefix(_GS).split("/", 1)
    blob = storage.Client().bucket(bucket).blob(name)
    try:
        blob.upload_from_string(data, if_generation_match=0)
    except PreconditionFailed:
        return False
    return True


def _literal(path: str) -> str:
    """Escapes what a pattern would read as a wildcard; Beam's buckets know ``*``, ``?`` and ``[``."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)

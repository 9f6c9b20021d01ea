"""Files of any storage that Beam reads, such as ``hdfs://`` with Beam's own module for it."""

from __future__ import annotations

from typing import Any

from apache_beam.io.filesystem import CompressionTypes as Compression
from apache_beam.io.filesystems import FileSystems

from model_bundle.base.objects.store import Entry


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if it does not exist."""
    found = FileSystems.match([literal(path)])[0].metadata_list
    return int(found[0].size_in_bytes) if found else None


def list_prefix(prefix: str) -> list[Entry]:
    """Lists the files whose path begins with a prefix."""
    found = FileSystems.match([f"{literal(prefix)}**"])[0].metadata_list
    return [
        Entry(item.path, int(item.size_in_bytes), float(item.last_updated_in_seconds or 0)) for item in found
    ]


def read(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    if not FileSystems.exists(path):
        return None
    with open_file(path) as stream:
        return bytes(stream.read())


def open_file(path: str) -> Any:
    """Opens a file for reading; the stream can seek."""
    return FileSystems.open(path, compression_type=Compression.UNCOMPRESSED)


def knows(path: str) -> bool:
    """Whether Beam has a file system for a path."""
    try:
        FileSystems.get_filesystem(path)
    except ValueError:
        return False
    return True


def literal(path: str) -> str:
    """Escapes the wildcards of Beam's patterns: ``*``, ``?`` and ``[``."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)

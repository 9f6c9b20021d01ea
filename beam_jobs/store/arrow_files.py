"""Reads the files of a run for Arrow and for digests: local ones without Beam, gs:// through Beam."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

_GS = "gs://"
_BLOCK_BYTES = 1 << 22


def join(root: str, *parts: str) -> str:
    """Joins a path below a root, local or remote."""
    return "/".join((root.rstrip("/") or "/", *parts))


def read_bytes(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    if path.startswith(_GS):
        from beam_jobs.store import filesystem

        return filesystem.read_bytes(path)
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_file(path: str) -> Any:
    """Opens a file for reading; the stream is seekable."""
    if path.startswith(_GS):
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return Path(path).open("rb")


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if the file does not exist."""
    if path.startswith(_GS):
        from beam_jobs.store import filesystem

        return filesystem.size_of(path)
    try:
        return Path(path).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def list_names(folder: str) -> list[str]:
    """Lists the names of the files directly in a folder; empty if it does not exist."""
    if folder.startswith(_GS):
        from beam_jobs.store import filesystem

        return sorted(path.rpartition("/")[2] for path in filesystem.list_files(folder))
    place = Path(folder)
    return sorted(entry.name for entry in place.iterdir() if entry.is_file()) if place.is_dir() else []


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


def arrow_filesystem(folder: str) -> fs.FileSystem:
    """Returns the Arrow file system for the files of a run."""
    return fs.PyFileSystem(_BeamFiles()) if folder.startswith(_GS) else fs.LocalFileSystem()


class _BeamFiles(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow is not typed
    """Read-only Arrow file system on top of Beam's, with the same credentials as the jobs."""

    def get_type_name(self) -> str:
        return "beam"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [_file_info(path) for path in paths]

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_sized(path), mode="r")

    open_input_stream = open_input_file

    def _refuse(self, *_: Any) -> Any:
        raise io.UnsupportedOperation("a run is opened for reading only")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refuse
    delete_root_dir_contents = delete_file = move = copy_file = _refuse
    open_output_stream = open_append_stream = _refuse


def _file_info(path: str) -> fs.FileInfo:
    size = size_of(path)
    return fs.FileInfo(path, fs.FileType.NotFound) if size is None else fs.FileInfo(path, size=size)


def _sized(path: str) -> io.BufferedIOBase:
    stream = open_file(path)
    return stream if isinstance(stream, io.BufferedIOBase) else io.BufferedReader(stream)

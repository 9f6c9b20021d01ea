"""The Arrow file system of a run's files: local by Arrow itself, remote ones as the jobs read them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
from pyarrow import fs

from beam_jobs.store.filesystem import is_local, open_file, size_of


def arrow_filesystem(folder: str) -> fs.FileSystem:
    """Returns the Arrow file system for the files of a run."""
    return fs.LocalFileSystem() if is_local(folder) else fs.PyFileSystem(_RemoteFiles())


class _RemoteFiles(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow is not typed
    """Read-only Arrow file system on top of that of jobs, with the same credentials."""

    def get_type_name(self) -> str:
        return "beam_jobs"

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

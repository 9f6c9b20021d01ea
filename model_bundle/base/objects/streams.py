"""Reads an object as a file that can seek, and uploads one in parts."""

from __future__ import annotations

import io
from typing import Any

from model_bundle.base.objects.clients import ConditionError, located, translated

# Of one request while a file is read from front to back, and of one part of an upload; S3 allows 10,000.
_MAX_AHEAD_BYTES = 1 << 23
_PART_BYTES = 1 << 23
_PARTS_AT_ONCE = 4
_BUFFER_BYTES = 1 << 16


def open_reader(path: str) -> io.BufferedReader:
    """Opens an object for reading; the stream can seek, and reads one version of the object.

    Raises:
        OSError: see ``clients.translated``; now or while reading.
    """
    return io.BufferedReader(_Reader(path), _BUFFER_BYTES)


class _Reader(io.RawIOBase):
    """Reads as much as is asked for after a seek, and further and further ahead in a row."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._store, self._key = located(path)
        with translated(path):
            meta = self._store.head(self._key)
        self._size, self._version = int(meta["size"]), meta["e_tag"]
        self._offset = self._ahead = self._start = 0
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        if self._offset >= self._size:
            return 0
        end = self._start + len(self._block)
        if not self._start <= self._offset < end:
            self._ahead = min(2 * self._ahead, _MAX_AHEAD_BYTES) if self._offset == end else 0
            self._ahead = max(self._ahead, len(buffer))
            self._start, self._block = self._offset, self._fetch(self._offset + self._ahead)
        at = self._offset - self._start
        part = self._block[at : at + len(buffer)]
        buffer[: len(part)] = part
        self._offset += len(part)
        return len(part)

    def _fetch(self, end: int) -> memoryview:
        options: Any = {"range": (self._offset, min(end, self._size))}
        if self._version is not None:
            options["if_match"] = self._version
        try:
            with translated(self._path):
                return memoryview(self._store.get(self._key, options=options).bytes())
        except ConditionError as error:
            raise OSError(f"{self._path} was replaced while it was read. Start again.") from error


class ObjectWriter:
    """Uploads an object in parts; one that is not closed never appears.

    Args:
        path: the object; what is there is replaced when the writer is closed.
    """

    def __init__(self, path: str) -> None:
        self._path, self.closed = path, False
        store, key = located(path)
        import obstore

        self._inner = obstore.open_writer(store, key, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def write(self, data: Any) -> int:
        """Takes bytes, and returns their number."""
        with translated(self._path):
            self._inner.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Does nothing: a part has a least size."""

    def close(self) -> None:
        """Completes the object."""
        if not self.closed:
            self.closed = True
            with translated(self._path):
                self._inner.close()

"""Opens files, local and remote: as stored and counted, decompressed, or transcoded for lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from beam_jobs.pipeline.read.files.compression import DecompressedFile
from beam_jobs.pipeline.read.files.encoding import TranscodedFile, is_line_safe
from beam_jobs.pipeline.read.types import DamagedFileError, FileInfo
from beam_jobs.store import filesystem

BUFFER_BYTES = 1 << 18
OnBytes = Callable[[int], None]


class Meter:
    """Reports the stored bytes read, at most ``share_bytes`` in total.

    Args:
        on_bytes: called with each number of bytes, or None.
        share_bytes: the reader's share of the file; neighbouring splits read some bytes twice.
    """

    def __init__(self, on_bytes: OnBytes | None, share_bytes: int) -> None:
        self._on_bytes, self._left = on_bytes, share_bytes

    def add(self, num_bytes: int) -> None:
        """Reports bytes that were read."""
        counted = min(num_bytes, self._left)
        if self._on_bytes is not None and counted > 0:
            self._left -= counted
            self._on_bytes(counted)


class StoredFile(io.RawIOBase):
    """The stored bytes of a file, with errors that distinguish permanent from transient failures.

    Args:
        file: the file to open; if it ends before its planned size, it changed during the job.
        meter: counts the bytes read.

    Attributes:
        failure: the error of the storage, which a library in between may have replaced.

    Raises:
        DamagedFileError: ``cannot_open`` if the file does not exist, is a folder or is not readable,
            ``cannot_read`` if a local disk fails, ``changed``. Other failures of remote storage are raised
            unchanged, so that the runner retries.
    """

    def __init__(self, file: FileInfo, meter: Meter | None = None) -> None:
        super().__init__()
        self._info, self._meter, self._offset = file, meter, 0
        self.failure: Exception | None = None
        try:
            self._file: Any = filesystem.open_file(file.path)
        except Exception as error:
            self._raise_if_final("cannot_open", error)
            raise

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to an offset in bytes and returns it."""
        self._file.seek(offset, whence)
        self._offset = int(self._file.tell())
        return self._offset

    def tell(self) -> int:
        """Returns the offset in bytes."""
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer; returns 0 at the end."""
        try:
            data = self._file.read(len(buffer))
        except Exception as error:
            self.failure = error
            self._raise_if_final("cannot_read", error)
            raise
        size = len(data)
        if not size and self._offset < self._info.size_bytes and len(buffer):
            raise self._changed()
        buffer[:size] = data
        self._offset += size
        if self._meter is not None:
            self._meter.add(size)
        return size

    def close(self) -> None:
        """Closes the underlying file."""
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _changed(self) -> DamagedFileError:
        return DamagedFileError(
            "changed",
            f"The file had {self._info.size_bytes:,} bytes when the job was planned, but now ends after "
            f"{self._offset:,}. Run again when no other program writes to it.",
        )

    def _raise_if_final(self, reason: str, error: Exception) -> None:
        is_local_failure = isinstance(error, OSError) and filesystem.is_local(self._info.path)
        # Google's client raises its own errors, which carry the HTTP status.
        is_refused = getattr(error, "code", None) in (403, 404)
        if is_local_failure or is_refused or isinstance(error, FileNotFoundError | PermissionError):
            raise DamagedFileError(
                reason,
                f"The file existed when the job was planned, but could not be read ({error}). "
                "Check that it still exists and that the workers have permission to read it.",
            ) from error


def open_lines(
    file: FileInfo, encoding: str, meter: Meter | None = None, start: int = 0
) -> io.BufferedReader:
    """Opens a text file as bytes that can be split at line feeds.

    The bytes are decompressed, and transcoded to UTF-8 if a line feed is not a separate byte in the encoding
    (``line_encoding`` returns the resulting encoding).

    Args:
        file: the file to open.
        encoding: the value of ``--encoding``.
        meter: counts the stored bytes.
        start: offset to start at; only for plain files in a line-safe encoding.

    Raises:
        DamagedFileError: now or while reading, see ``StoredFile`` and ``DecompressedFile``.
    """
    raw = _open_raw(file, meter, start)
    return io.BufferedReader(raw if is_line_safe(encoding) else TranscodedFile(raw, encoding), BUFFER_BYTES)


def open_decompressed(file: FileInfo) -> io.BufferedReader:
    """Opens a file as decompressed bytes in their original encoding.

    Raises:
        DamagedFileError: now or while reading, see ``StoredFile`` and ``DecompressedFile``.
    """
    return io.BufferedReader(_open_raw(file, None, 0), BUFFER_BYTES)


def _open_raw(file: FileInfo, meter: Meter | None, start: int) -> io.RawIOBase:
    stored = StoredFile(file, meter)
    if start:
        stored.seek(start)
    return stored if file.compression is None else DecompressedFile(stored, file.compression)

"""From a path to bytes: local files and gs:// alike, as stored, counted, decompressed, as lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_jobs.pipeline.read.files.compression import DecompressedFile
from beam_jobs.pipeline.read.files.encoding import TranscodedFile, is_line_safe
from beam_jobs.pipeline.read.types import DamagedFileError, FileInfo

BUFFER_BYTES = 1 << 18
OnBytes = Callable[[int], None]


class Meter:
    """Tells a listener how many stored bytes were read, never more than the share of this reader.

    Args:
        on_bytes: called with each number of bytes, or None.
        share_bytes: what a complete reading adds up to; neighbouring splits read some bytes twice.
    """

    def __init__(self, on_bytes: OnBytes | None, share_bytes: int) -> None:
        self._on_bytes, self._left = on_bytes, share_bytes

    def add(self, num_bytes: int) -> None:
        """Reports bytes just read."""
        counted = min(num_bytes, self._left)
        if self._on_bytes is not None and counted > 0:
            self._left -= counted
            self._on_bytes(counted)


class StoredFile(io.RawIOBase):
    """The bytes of a file as they are stored, read with errors that say whether trying again can help.

    Args:
        file: what to open; a file that ends before its planned size has changed under the job.
        meter: counts what is read.

    Attributes:
        failure: the storage's error, where a library in between may have turned it into its own.

    Raises:
        DamagedFileError: ``cannot_open`` where the file is gone, is a folder or may not be read,
            ``cannot_read`` where a local disk fails, ``changed``. Other failures of remote storage are
            passed on as they are, for the runner to try again.
    """

    def __init__(self, file: FileInfo, meter: Meter | None = None) -> None:
        super().__init__()
        self._info, self._meter, self._offset = file, meter, 0
        self.failure: Exception | None = None
        try:
            self._file: Any = FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED)
        except Exception as error:
            self._raise_if_final("cannot_open", error)
            raise

    def readable(self) -> bool:
        """Says that this can be read."""
        return True

    def seekable(self) -> bool:
        """Says that this can be read from anywhere."""
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
        """Fills a part of the buffer; 0 means the end."""
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
        """Closes the file underneath."""
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _changed(self) -> DamagedFileError:
        return DamagedFileError(
            "changed",
            f"The file had {self._info.size_bytes:,} bytes when the job was planned, but now ends after "
            f"{self._offset:,}. Run again when nothing writes to it.",
        )

    def _raise_if_final(self, reason: str, error: Exception) -> None:
        is_local_failure = isinstance(error, OSError) and FileSystems.get_scheme(self._info.path) is None
        # Google's client raises its own errors, which carry the HTTP status.
        is_refused = getattr(error, "code", None) in (403, 404)
        if is_local_failure or is_refused or isinstance(error, FileNotFoundError | PermissionError):
            raise DamagedFileError(
                reason,
                f"The file was there when the job was planned, but could not be read ({error}). "
                "Check that it still exists and that the workers may read it.",
            ) from error


def open_lines(
    file: FileInfo, encoding: str, meter: Meter | None = None, start: int = 0
) -> io.BufferedReader:
    """Opens a text file as bytes that can be cut into lines at line feeds.

    The bytes are decompressed, and transcoded to UTF-8 where a line feed is not a byte of its own in
    the encoding (``line_encoding`` says which encoding they then have).

    Args:
        file: the file to open.
        encoding: the encoding the file is said to have.
        meter: counts the stored bytes.
        start: offset to begin at; only plain files in a line-safe encoding have one.

    Raises:
        DamagedFileError: now or while reading, see ``StoredFile`` and ``DecompressedFile``.
    """
    raw = _open_raw(file, meter, start)
    return io.BufferedReader(raw if is_line_safe(encoding) else TranscodedFile(raw, encoding), BUFFER_BYTES)


def open_decompressed(file: FileInfo) -> io.BufferedReader:
    """Opens a file as its decompressed bytes, whatever encoding they are in.

    Raises:
        DamagedFileError: now or while reading, see ``StoredFile`` and ``DecompressedFile``.
    """
    return io.BufferedReader(_open_raw(file, None, 0), BUFFER_BYTES)


def _open_raw(file: FileInfo, meter: Meter | None, start: int) -> io.RawIOBase:
    stored = StoredFile(file, meter)
    if start:
        stored.seek(start)
    return stored if file.compression is None else DecompressedFile(stored, file.compression)

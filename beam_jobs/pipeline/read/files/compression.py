"""Decompression that notices when a file was cut short.

Beam's own readers take the end of the file for the end of the data; here every gzip member, bzip2 stream and
Zstandard frame must reach its own end, checksums included. A file cut exactly between two members is a whole
file by its format, and nothing can tell.
"""

from __future__ import annotations

import bz2
import io
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import zstandard

from beam_jobs.pipeline.read.types import Compression, DamagedFileError

STORED_BLOCK_BYTES = 1 << 16
MAX_OUTPUT_BYTES = 1 << 20
# What one call of zstandard takes in, because it has no limit on what it gives back: 4 bytes can stand for a
# block of 128 KiB, so at most 32 MiB come out (and as much again while they are joined). Measured on text:
# 330 MB/s, and 640 MB/s with 4 KiB, which would be 128 MiB.
ZSTD_PIECE_BYTES = 1 << 10


class _Decoder(Protocol):
    """Decompresses one member: gets data only when ``hungry``; ``rest`` is what lies behind its end."""

    def decode(self, data: bytes) -> bytes: ...
    @property
    def hungry(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def rest(self) -> bytes: ...


class _GzipDecoder:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def decode(self, data: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, MAX_OUTPUT_BYTES)

    @property
    def hungry(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data


class _Bzip2Decoder:
    def __init__(self) -> None:
        self._inner = bz2.BZ2Decompressor()

    def decode(self, data: bytes) -> bytes:
        return self._inner.decompress(data, MAX_OUTPUT_BYTES)

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input

    @property
    def ended(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data


class _ZstdDecoder:
    def __init__(self) -> None:
        self._inner: Any = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")

    def decode(self, data: bytes) -> bytes:
        waiting = self._waiting or memoryview(data)
        self._waiting = waiting[ZSTD_PIECE_BYTES:]
        return bytes(self._inner.decompress(waiting[:ZSTD_PIECE_BYTES]))

    @property
    def hungry(self) -> bool:
        return not self._waiting

    @property
    def ended(self) -> bool:
        return bool(self._inner.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._inner.unused_data) + bytes(self._waiting)


_DECODERS: dict[Compression, Callable[[], _Decoder]] = {
    "gz": _GzipDecoder,
    "bz2": _Bzip2Decoder,
    "zst": _ZstdDecoder,
}
# gzip files may be filled up with zeros to whole tape blocks.
_PADDING: dict[Compression, bytes] = {"gz": b"\0", "bz2": b"", "zst": b""}


class DecompressedFile(io.RawIOBase):
    """The content of a compressed file, all its members one after the other.

    Args:
        stored: the compressed bytes, from their beginning.
        compression: how they were compressed.

    Raises (while reading):
        DamagedFileError: ``truncated`` where the data stops inside a member, after all that came before
            was given; ``damaged`` where it is not what it says it is.
    """

    def __init__(self, stored: io.RawIOBase, compression: Compression) -> None:
        super().__init__()
        self._stored, self._compression = stored, compression
        self._decoder: _Decoder | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Says that this can be read."""
        return True

    def close(self) -> None:
        """Closes the stored file too."""
        self._stored.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer; 0 means the end."""
        while not self._ready:
            output = self._next_output()
            if output is None:
                return 0
            self._ready = memoryview(output)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _next_output(self) -> bytes | None:
        if self._decoder is None or self._decoder.ended:
            data = self._next_member()
            if not data:
                return None
            self._decoder = _DECODERS[self._compression]()
        else:
            data = self._more_of_member(self._decoder)
        try:
            return self._decoder.decode(data)
        # bz2 raises OSError (and ValueError) for bytes that are not bzip2; no file is touched here.
        except (zlib.error, OSError, ValueError, zstandard.ZstdError) as error:
            raise DamagedFileError(
                "damaged",
                f"Expected .{self._compression} data, but it could not be decompressed ({error}). "
                "Copy or compress the file again.",
            ) from error

    def _next_member(self) -> bytes:
        padding = _PADDING[self._compression]
        data = self._decoder.rest.lstrip(padding) if self._decoder else b""
        while not data:
            stored = self._stored.read(STORED_BLOCK_BYTES)
            if not stored:
                break
            data = stored.lstrip(padding) if self._decoder else stored
        if not data and self._decoder is None:
            raise self._truncated("it is empty")
        return data

    def _more_of_member(self, decoder: _Decoder) -> bytes:
        data = (self._stored.read(STORED_BLOCK_BYTES) or b"") if decoder.hungry else b""
        if not data and decoder.hungry:
            raise self._truncated("it stops in the middle")
        return data

    def _truncated(self, what: str) -> DamagedFileError:
        return DamagedFileError(
            "truncated",
            f"The .{self._compression} file was cut short: {what}. What came before was read. "
            "Copy the file again and compare its size with the original.",
        )

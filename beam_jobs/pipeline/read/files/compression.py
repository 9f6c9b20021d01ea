"""Decompresses files and detects truncation.

Beam's readers treat the end of the file as the end of the data; here every gzip member, bzip2 stream and
Zstandard frame must be complete, checksums included. A file cut exactly between two members is valid, so this
cannot be detected.
"""

from __future__ import annotations

import bz2
import io
import zlib
from collections.abc import Callable
from typing import Any

import zstandard

from beam_jobs.pipeline.read.types import Compression, DamagedFileError

STORED_BLOCK_BYTES = 1 << 16
MAX_OUTPUT_BYTES = 1 << 20
# Input per call of zstandard, which cannot limit its output: 4 bytes can encode a block of 128 KiB, so at
# most 32 MiB are returned (twice that while they are joined). Measured on text: 330 MB/s; with 4 KiB 640
# MB/s, but up to 128 MiB.
ZSTD_PIECE_BYTES = 1 << 10


class _Decoder:
    """Decompresses one member: takes data only if ``hungry``; ``rest`` are the bytes after its end."""

    _inner: Any

    def decode(self, data: bytes) -> bytes:
        raise NotImplementedError

    @property
    def hungry(self) -> bool:
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        return bool(self._inner.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._inner.unused_data)


class _GzipDecoder(_Decoder):
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def decode(self, data: bytes) -> bytes:
        return bytes(self._inner.decompress(self._inner.unconsumed_tail + data, MAX_OUTPUT_BYTES))

    @property
    def hungry(self) -> bool:
        return not self._inner.unconsumed_tail


class _Bzip2Decoder(_Decoder):
    def __init__(self) -> None:
        self._inner = bz2.BZ2Decompressor()

    def decode(self, data: bytes) -> bytes:
        return bytes(self._inner.decompress(data, MAX_OUTPUT_BYTES))

    @property
    def hungry(self) -> bool:
        return bool(self._inner.needs_input)


class _ZstdDecoder(_Decoder):
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")

    def decode(self, data: bytes) -> bytes:
        waiting = self._waiting or memoryview(data)
        self._waiting = waiting[ZSTD_PIECE_BYTES:]
        return bytes(self._inner.decompress(waiting[:ZSTD_PIECE_BYTES]))

    @property
    def hungry(self) -> bool:
        return not self._waiting

    @property
    def rest(self) -> bytes:
        return super().rest + bytes(self._waiting)


_DECODERS: dict[Compression, Callable[[], _Decoder]] = {
    "gz": _GzipDecoder,
    "bz2": _Bzip2Decoder,
    "zst": _ZstdDecoder,
}
# gzip files may be padded with zeros to full tape blocks.
_PADDING: dict[Compression, bytes] = {"gz": b"\0", "bz2": b"", "zst": b""}


class DecompressedFile(io.RawIOBase):
    """The decompressed content of a file, including all members.

    Args:
        stored: the compressed bytes from the beginning.
        compression: compression format.

    Raises (while reading):
        DamagedFileError: ``truncated`` if the data ends inside a member, after everything before was
            returned; ``damaged`` if the data is invalid.
    """

    def __init__(self, stored: io.RawIOBase, compression: Compression) -> None:
        super().__init__()
        self._stored, self._compression = stored, compression
        self._decoder: _Decoder | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def close(self) -> None:
        """Also closes the stored file."""
        self._stored.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer; returns 0 at the end."""
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
                f"Expected .{self._compression} data, but decompression failed ({error}). "
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
            raise self._truncated("it ends inside the data")
        return data

    def _truncated(self, what: str) -> DamagedFileError:
        return DamagedFileError(
            "truncated",
            f"The .{self._compression} file is truncated: {what}. Everything before was read. "
            "Copy the file again and compare its size with the original.",
        )

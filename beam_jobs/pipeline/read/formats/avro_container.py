"""The container of Avro files: a header with the schema, then blocks of records, each compressed.

fastavro decodes the records; the container is read here, because sizes that a file states must not decide how
much memory is taken, and because codecs must not need further packages.
Source: Apache Avro 1.12 specification, "Object Container Files".
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import zstandard

from beam_jobs.pipeline.read.types import DamagedFileError

MAGIC = b"Obj\x01"
# Writers close blocks at 16 kB to 4 MB; a block is decompressed as a whole.
MAX_BLOCK_BYTES = 1 << 28
_MAX_HEADER_BYTES = 1 << 26
_SYNC_BYTES = 16
_CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class Header:
    """Schema as JSON values, codec, and the marker that ends each block."""

    schema: Any
    codec: str
    sync: bytes


def read_header(stream: io.BufferedReader) -> Header:
    """Reads the header of a file.

    Raises:
        DamagedFileError: it is not an Avro file, or compressed in a way that is not supported.
    """
    if stream.read(len(MAGIC)) != MAGIC:
        raise damaged("it does not begin as one")
    metadata: dict[str, bytes] = {}
    while count := read_long(stream):
        if count < 0:  # then the size of the entries follows
            read_long(stream)
        for _ in range(abs(count)):
            key = _read_sized(stream, _MAX_HEADER_BYTES)
            metadata[key.decode("utf-8", "replace")] = _read_sized(stream, _MAX_HEADER_BYTES)
    codec = metadata.get("avro.codec", b"null").decode("utf-8", "replace")
    if codec not in _CODECS:
        known = ", ".join(_CODECS)
        raise DamagedFileError(
            "unsupported_codec", f"Expected one of the codecs {known}. Write the file again with one of them."
        )
    try:
        schema = json.loads(metadata.get("avro.schema", b""))
    except (ValueError, RecursionError) as error:
        raise damaged("its schema is not JSON") from error
    return Header(schema, codec, _read_exactly(stream, _SYNC_BYTES))


def iter_blocks(stream: io.BufferedReader, header: Header) -> Iterator[tuple[int, bytes]]:
    """Yields number and bytes of the records of each block.

    Raises:
        DamagedFileError: ``truncated`` if the file ends inside a block, ``damaged`` if one is invalid.
    """
    decompress = _CODECS[header.codec]
    while stream.peek(1):
        count, data = read_long(stream), _read_sized(stream, MAX_BLOCK_BYTES)
        if _read_exactly(stream, _SYNC_BYTES) != header.sync:
            raise damaged("the marker after a block is another one")
        try:
            content = decompress(data)
        except (
            zlib.error,
            lzma.LZMAError,
            zstandard.ZstdError,
            pa.ArrowException,
            OSError,
            ValueError,
        ) as error:
            raise damaged(f"decompression failed: {error}") from error
        # A record with a text has at least the byte of its length; others would be records without end.
        if not 0 <= count <= len(content):
            raise damaged(f"a block of {len(content):,} bytes has {count:,} records")
        yield count, content


def damaged(what: str) -> DamagedFileError:
    """Builds the error of a file that cannot be read further."""
    return DamagedFileError(
        "damaged", f"Expected an Avro file, but {what}. Everything before was read. Copy or write it again."
    )


def read_long(stream: io.BufferedReader) -> int:
    """Reads an integer of variable length.

    Raises:
        DamagedFileError: ``truncated``, or it has more than 64 bits.
    """
    value = shift = 0
    while True:
        (byte,) = _read_exactly(stream, 1)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)
        if shift > 63:
            raise damaged("a number in it has more than 64 bits")


def write_long(value: int) -> bytes:
    r"""Returns an integer as ``read_long`` reads it.

    >>> write_long(-1), write_long(64)
    (b'\x01', b'\x80\x01')
    """
    rest, written = (value << 1) ^ (value >> 63), bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def _read_sized(stream: io.BufferedReader, max_bytes: int) -> bytes:
    size = read_long(stream)
    if not 0 <= size <= max_bytes:
        raise damaged(f"a part of it has {size:,} bytes, and at most {max_bytes:,} are read at once")
    return _read_exactly(stream, size)


def _read_exactly(stream: io.BufferedReader, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise DamagedFileError(
            "truncated",
            "The Avro file is truncated: it ends inside a block. Everything before was read. Copy the file "
            "again and compare its size with the original.",
        )
    return data


def _bounded(decoder: Any, data: bytes) -> bytes:
    """Decompresses with a decoder that can stop."""
    content: bytes = decoder.decompress(data, MAX_BLOCK_BYTES + 1)
    return _checked(content, is_whole=decoder.eof)


def _checked(content: bytes, *, is_whole: bool) -> bytes:
    if len(content) > MAX_BLOCK_BYTES:
        raise ValueError(f"a block has more than {MAX_BLOCK_BYTES:,} bytes")
    if not is_whole:
        raise ValueError("a block ends early")
    return content


def _snappy(data: bytes) -> bytes:
    """Decompresses a block, after which the CRC-32 of its content follows."""
    compressed, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    size = shift = 0
    for byte in compressed[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > MAX_BLOCK_BYTES:
        raise ValueError(f"a block has {size:,} bytes")
    content = bytes(pa.decompress(compressed, decompressed_size=size, codec="snappy", asbytes=True))
    if zlib.crc32(content) != int.from_bytes(checksum, "big"):
        raise ValueError("a checksum is wrong")
    return content


def _zstandard(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        content = reader.read(MAX_BLOCK_BYTES + 1)
    return _checked(content, is_whole=True)


_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": lambda data: _bounded(_Deflate(), data),
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": lambda data: _bounded(bz2.BZ2Decompressor(), data),
    "xz": lambda data: _bounded(lzma.LZMADecompressor(), data),
}


class _Deflate:
    """zlib without its header, with the interface of the other decoders."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-zlib.MAX_WBITS)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        return self._inner.decompress(data, max_bytes)

    @property
    def eof(self) -> bool:
        return self._inner.eof

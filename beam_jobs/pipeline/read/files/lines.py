r"""Splits a byte stream into lines, in bounded memory even for very long lines.

Only ``\n`` and ``\r\n`` end a line; other carriage returns and all other Unicode line breaks are part of it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from beam_jobs.pipeline.read.files.encoding import is_line_safe
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, open_lines
from beam_jobs.pipeline.read.types import FileInfo, FileSplit

# 1,000 characters; no encoding in Python needs more than 4 bytes per character.
MAX_HEAD_BYTES = 4_000
PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Oversized:
    """A record that was too large to keep: its size, its digest and its first 4,000 bytes."""

    num_bytes: int
    sha256: str
    head: bytes


class Measure:
    """Measures bytes that are not kept: their number, digest and head."""

    def __init__(self) -> None:
        self._sha256, self._head, self._num_bytes, self._held = hashlib.sha256(), b"", 0, b""

    def add(self, piece: bytes) -> None:
        """Adds the next bytes of lines; a line end is held back until more bytes follow."""
        data = self._held + piece
        body = data.removesuffix(b"\n").removesuffix(b"\r")
        self.take(body)
        self._held = data[len(body) :]

    def result(self) -> Oversized:
        """Returns the result; a carriage return without a line feed is part of the content."""
        if self._held == b"\r":
            self.take(self._held)
        return Oversized(self._num_bytes, self._sha256.hexdigest(), self._head)

    def take(self, body: bytes) -> None:
        """Adds bytes unchanged, line ends included."""
        self._sha256.update(body)
        self._num_bytes += len(body)
        if len(self._head) < MAX_HEAD_BYTES:
            self._head += body[: MAX_HEAD_BYTES - len(self._head)]


def without_line_end(line: bytes) -> bytes:
    r"""Removes ``\n`` or ``\r\n`` from the end of a line.

    >>> without_line_end(b"a\r\r\n"), without_line_end(b"a\r")
    (b'a\r', b'a\r')
    """
    if not line.endswith(b"\n"):
        return line
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def iter_lines(
    stream: io.BufferedReader, max_bytes: int, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes | Oversized]]:
    """Splits a stream into lines.

    Args:
        stream: positioned at the first byte of a line, at offset ``start``.
        max_bytes: longer lines, without their ends, are returned as ``Oversized``.
        start: offset of the stream's next byte.
        end: lines that begin here or later belong to other splits; None reads to the end of the stream.

    Yields:
        The offset of each line's first byte, and its bytes without the line end.
    """
    readline, limit, offset = stream.readline, max_bytes + 2, start
    while end is None or offset < end:
        line = readline(limit)
        if not line:
            return
        begun = offset
        offset += len(line)
        body = without_line_end(line)
        if len(body) <= max_bytes:
            yield begun, body
        else:
            oversized, num_more = _skip_line(stream, line)
            offset += num_more
            yield begun, oversized


def _skip_line(stream: io.BufferedReader, piece: bytes) -> tuple[Oversized, int]:
    """Reads the rest of a line after its first piece; also returns the number of bytes read."""
    measure, num_more = Measure(), 0
    measure.add(piece)
    while not piece.endswith(b"\n"):
        piece = stream.readline(PIECE_BYTES)
        if not piece:
            break
        num_more += len(piece)
        measure.add(piece)
    return measure.result(), num_more


def is_splittable(file: FileInfo, encoding: str) -> bool:
    """Whether a line file can be read from the middle and its lines identified by byte offset."""
    return file.compression is None and is_line_safe(encoding)


def split_lines(
    split: FileSplit, encoding: str, max_bytes: int, on_bytes: OnBytes | None = None
) -> Iterator[tuple[int, bytes | Oversized]]:
    """Yields position and bytes of the lines that begin in a split.

    The position is the byte offset if the file is splittable, otherwise the line number, from 0.

    Raises:
        DamagedFileError: see ``open_lines``.
    """
    share = (split.file.size_bytes if split.end is None else split.end) - split.start
    # A line begins at ``start`` if and only if the byte before is a line feed, so start reading there.
    start = max(split.start - 1, 0)
    with closing(open_lines(split.file, encoding, Meter(on_bytes, share), start)) as stream:
        first = _skip_to_line(stream, start, split.end) if split.start else 0
        lines = iter_lines(stream, max_bytes, first, split.end)
        if is_splittable(split.file, encoding):
            yield from lines
        else:
            for number, (_, line) in enumerate(lines):
                yield number, line


def _skip_to_line(stream: io.BufferedReader, offset: int, end: int | None) -> int:
    """Reads to the first line end, or to ``end``; returns the offset after it."""
    while end is None or offset < end:
        piece = stream.readline(PIECE_BYTES)
        offset += len(piece)
        if not piece or piece.endswith(b"\n"):
            break
    return offset

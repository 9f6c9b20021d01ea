r"""Cutting a stream of bytes into lines, in bounded memory however long a line is.

Only ``\n`` and ``\r\n`` end a line; a carriage return anywhere else belongs to it, and so do all other
characters that Unicode calls line breaks.
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

# 1,000 characters, of which no encoding that Python has needs more than 4 bytes for one.
MAX_HEAD_BYTES = 4_000
PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Oversized:
    """What is known of bytes that were too many to hold: how many, their digest, the first 4,000."""

    num_bytes: int
    sha256: str
    head: bytes


class Measure:
    """Counts and digests bytes that are not kept: of lines without the last line end, or as they are."""

    def __init__(self) -> None:
        self._sha256, self._head, self._num_bytes, self._held = hashlib.sha256(), b"", 0, b""

    def add(self, piece: bytes) -> None:
        """Takes the next bytes of lines; a line end is held back until something follows it."""
        data = self._held + piece
        body = data.removesuffix(b"\n").removesuffix(b"\r")
        self.take(body)
        self._held = data[len(body) :]

    def result(self) -> Oversized:
        """Ends the measuring; a carriage return with no line feed behind it belongs to the content."""
        if self._held == b"\r":
            self.take(self._held)
        return Oversized(self._num_bytes, self._sha256.hexdigest(), self._head)

    def take(self, body: bytes) -> None:
        """Takes bytes as they are, line ends included."""
        self._sha256.update(body)
        self._num_bytes += len(body)
        if len(self._head) < MAX_HEAD_BYTES:
            self._head += body[: MAX_HEAD_BYTES - len(self._head)]


def without_line_end(line: bytes) -> bytes:
    r"""Takes ``\n`` or ``\r\n`` off the end of a line.

    >>> without_line_end(b"a\r\r\n"), without_line_end(b"a\r")
    (b'a\r', b'a\r')
    """
    if not line.endswith(b"\n"):
        return line
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def iter_lines(
    stream: io.BufferedReader, max_bytes: int, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes | Oversized]]:
    """Cuts a stream into lines.

    Args:
        stream: stands at a line's first byte, which has the offset ``start``.
        max_bytes: longer lines, their ends not counted, are given as ``Oversized``.
        start: offset of the stream's next byte.
        end: lines that begin here or later are left to others; None reads to the end of the stream.

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
    """Reads on to the end of a line of which a piece was read; also gives the number of bytes read on."""
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
    """Whether a line file can be read from its middle, and its lines be named by their byte offset."""
    return file.compression is None and is_line_safe(encoding)


def split_lines(
    split: FileSplit, encoding: str, max_bytes: int, on_bytes: OnBytes | None = None
) -> Iterator[tuple[int, bytes | Oversized]]:
    """Returns position and bytes of the lines that begin in a split.

    The position is the byte offset where the file is splittable, elsewhere the number of the line, from 0.

    Raises:
        DamagedFileError: see ``open_lines``.
    """
    share = (split.file.size_bytes if split.end is None else split.end) - split.start
    # A line begins at ``start`` if and only if the byte before it is a line feed: begin to read there.
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
    """Reads to the first line end, or to ``end``; gives the offset behind it."""
    while end is None or offset < end:
        piece = stream.readline(PIECE_BYTES)
        offset += len(piece)
        if not piece or piece.endswith(b"\n"):
            break
    return offset

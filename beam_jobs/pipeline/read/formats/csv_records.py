"""Splits a CSV file into records with Python's csv module, in bounded memory and without losing bytes.

The module requests another line only if a record continues inside quotes, so the lines since the last record
are exactly the bytes of this one: they give size, digest and text for a dead letter.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from beam_jobs.base.units import count
from beam_jobs.pipeline.read.files.encoding import BOM_UTF8
from beam_jobs.pipeline.read.files.lines import PIECE_BYTES, Measure, Oversized, without_line_end
from beam_jobs.pipeline.read.types import DamagedFileError

# The csv module has one limit per process; here each job bounds its records instead. 2**31 - 1 is the largest
# value that every platform accepts.
_FIELD_SIZE_LIMIT = 2**31 - 1
UNCLOSED_QUOTE_HINT = (
    "A field that begins with a quote continues to the next single quote, across lines (RFC 4180). "
    "Close it, or double the quotes inside it; for a file without quoted fields use --no_csv_quotes."
)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """An invalid record: its bytes, and the reason; None if they are not in the encoding.

    ``num_fields`` is the number of its fields if that is what is wrong.
    """

    data: bytes
    why: str | None
    num_fields: int | None = None


Record = list[str] | BadRecord | Oversized


class _TooLargeError(Exception):
    """The current record exceeds the limit."""


class _UnclosedError(Exception):
    """The file ends inside the quotes of the current record."""


class _RecordLines:
    """Decoded lines for the csv module, and the bytes of the current record."""

    def __init__(
        self, stream: io.BufferedReader, encoding: str, max_bytes: int, comment: str | None = None
    ) -> None:
        self._comment = None if comment is None else comment.encode(encoding, "replace")
        self._readline, self.encoding, self._max_bytes = stream.readline, encoding, max_bytes
        self.lines: list[bytes] = []
        self.size = 0
        self.num_lines = 0
        self.is_decodable = True
        self.at_end = False

    def begin_record(self) -> None:
        self.lines, self.size, self.is_decodable = [], 0, True

    def _next_line(self) -> bytes:
        # Two more for the line end, and one to detect that the record is too large.
        line = self._readline(self._max_bytes - self.size + 3)
        if not self.num_lines:
            line = line.removeprefix(BOM_UTF8)
        self.num_lines += bool(line)
        return line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._next_line()
        while self._comment is not None and not self.lines and line.startswith(self._comment):
            while not line.endswith(b"\n") and (line := self._readline(PIECE_BYTES)):
                pass
            line = self._next_line()
        if not line:
            self.at_end = True
            raise StopIteration
        self.lines.append(line)
        self.size += len(line)
        if self.size > self._max_bytes + 2:
            raise _TooLargeError
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError:
            self.is_decodable = False
            return line.decode(self.encoding, "replace")


class _QuoteScanner:
    """Tracks the quotes of a record that is too large to keep, to find its end."""

    def __init__(self, delimiter: str, quotes: bool) -> None:
        self._boundary = re.compile(f"[{re.escape(delimiter)}\n]")
        self._quotes = quotes
        self._state = "field_start"

    @property
    def is_in_quotes(self) -> bool:
        return self._state == "quoted"

    def feed(self, text: str) -> bool:
        """Scans the next characters, at most to the end of a line; returns whether the record ended."""
        at = 0
        while at < len(text):
            if self._state == "quoted":
                found = text.find('"', at)
                at = len(text) if found < 0 else found + 1
                self._state = "quoted" if found < 0 else "quote_seen"
            elif self._state != "in_field" and text[at] == '"' and self._quotes:
                self._state = "quoted"
                at += 1
            else:
                match = self._boundary.search(text, at)
                at = len(text) if match is None else match.end()
                self._state = "in_field" if match is None else "field_start"
                if match is not None and match.group() == "\n":
                    return True
        return False


def iter_records(
    stream: io.BufferedReader,
    encoding: str,
    max_bytes: int,
    *,
    delimiter: str = ",",
    quotes: bool = True,
    num_fields: int | None = None,
    comment: str | None = None,
) -> Iterator[Record]:
    """Splits a stream into records; blank lines are skipped.

    Args:
        stream: the bytes of the file from its beginning.
        encoding: encoding of the bytes; a line feed must be a separate byte.
        max_bytes: larger records, without the line end, are returned as ``Oversized``.
        delimiter: one character.
        quotes: False treats quotes as ordinary characters, so that every line is a record.
        num_fields: required number of fields; None takes that of the first record.
        comment: lines that begin with this where a record would begin are skipped.

    Yields:
        The fields, ``BadRecord`` for wrong quotes, number of fields or bytes, or ``Oversized``.

    Raises:
        DamagedFileError: ``unclosed_quote`` if the file ends inside quotes.
    """
    csv.field_size_limit(_FIELD_SIZE_LIMIT)
    lines = _RecordLines(stream, encoding, max_bytes, comment)
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE, strict=True
    )
    new_scanner = partial(_QuoteScanner, delimiter, quotes)
    while True:
        begun = lines.num_lines + 1
        lines.begin_record()
        try:
            fields = _next_record(reader, lines, new_scanner)
        except _TooLargeError:
            skipped = _skip_record(stream, lines.lines, encoding, new_scanner(), begun)
            if skipped is not None:
                yield skipped
            continue
        except _UnclosedError as error:
            raise _unclosed_quote(begun) from error
        if fields is None:
            return
        if not isinstance(fields, list):
            yield fields
            continue
        if not fields:
            continue
        if num_fields is None:
            num_fields = len(fields)
        if len(fields) == num_fields and lines.is_decodable and lines.size <= max_bytes:
            yield fields
        else:
            yield _checked(fields, lines, num_fields, max_bytes)


def _next_record(
    reader: Iterator[list[str]], lines: _RecordLines, new_scanner: Callable[[], _QuoteScanner]
) -> list[str] | BadRecord | None:
    """Returns the fields of the next record; None at the end of the file.

    A record with wrong quotes is read to its end, which may be in a later line: the csv module would continue
    with the next line and make up records from the rest of this one.

    Raises:
        _TooLargeError: the record is too large.
        _UnclosedError: the file ends inside quotes.
    """
    try:
        return next(reader, None)
    except csv.Error as error:
        if lines.at_end:
            raise _UnclosedError from error
        why, scanner = _explained(error), new_scanner()
    for data in lines.lines:
        has_ended = scanner.feed(data.decode(lines.encoding, "replace"))
    while not has_ended and (line := next(lines, "")):
        has_ended = scanner.feed(line)
    if scanner.is_in_quotes:
        raise _UnclosedError
    return BadRecord(_content(lines.lines), why)


def _checked(fields: list[str], lines: _RecordLines, num_fields: int, max_bytes: int) -> Record:
    content = _content(lines.lines)
    if len(content) > max_bytes:
        measure = Measure()
        measure.take(content)
        return measure.result()
    if not lines.is_decodable:
        return BadRecord(content, None)
    if len(fields) != num_fields:
        why = f"expected {count(num_fields, 'field')}, but it has {len(fields)}"
        return BadRecord(content, why, len(fields))
    return fields


def _explained(error: csv.Error) -> str:
    """Returns the message of an error, replacing the csv module's hint about Python for carriage returns."""
    return "there is a carriage return outside quotes" if "new-line" in str(error) else str(error)


def _content(lines: list[bytes]) -> bytes:
    return without_line_end(b"".join(lines))


def _skip_record(
    stream: io.BufferedReader, lines: list[bytes], encoding: str, scanner: _QuoteScanner, begun: int
) -> Oversized | None:
    """Reads to the end of the record that begins with these lines; None if it is nothing but line ends."""
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    measure, pieces, is_blank = Measure(), iter(lines), True
    while piece := next(pieces, b"") or stream.readline(PIECE_BYTES):
        measure.add(piece)
        is_blank = is_blank and not piece.strip(b"\r\n")
        if scanner.feed(decode(piece)):
            break
    if scanner.is_in_quotes:
        raise _unclosed_quote(begun)
    return None if is_blank else measure.result()


def _unclosed_quote(line_number: int) -> DamagedFileError:
    return DamagedFileError(
        "unclosed_quote",
        f"The record that begins in line {line_number:,} has an unclosed quote: everything from there to the "
        f"end of the file would be one field. {UNCLOSED_QUOTE_HINT}",
    )

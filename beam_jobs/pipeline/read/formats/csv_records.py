"""Cutting a CSV file into records with Python's csv module, in bounded memory and with nothing swallowed.

The module asks for one more line only where a record goes on inside quotes, so what it took since the last
record is exactly that record's bytes: they give its size, its digest and its text for a dead letter.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from beam_jobs.pipeline.read.files.encoding import BOM_UTF8
from beam_jobs.pipeline.read.files.lines import PIECE_BYTES, Measure, Oversized, without_line_end
from beam_jobs.pipeline.read.types import DamagedFileError

# The csv module has one limit for the whole process; here records are bounded instead, each by its own job.
# 2**31 - 1 is the largest that every platform takes.
_FIELD_SIZE_LIMIT = 2**31 - 1
UNCLOSED_QUOTE_HINT = (
    "A field that begins with a quote goes on to the next lone quote, across lines (RFC 4180). "
    "Close it, or double the quotes inside it; for a file that does not quote fields give --no_csv_quotes."
)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be used: its bytes, and why; None where they are not in the encoding."""

    data: bytes
    why: str | None


Record = list[str] | BadRecord | Oversized


class _TooLargeError(Exception):
    """The record being read is over the limit."""


class _RecordLines:
    """The lines that the csv module asks for, decoded, with the bytes of the record so far."""

    def __init__(self, stream: io.BufferedReader, encoding: str, max_bytes: int) -> None:
        self._readline, self._encoding, self._max_bytes = stream.readline, encoding, max_bytes
        self.lines: list[bytes] = []
        self.size = 0
        self.num_lines = 0
        self.is_decodable = True
        self.at_end = False

    def begin_record(self) -> None:
        self.lines, self.size, self.is_decodable = [], 0, True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # Two more for the line end, and one to see that there is still more.
        line = self._readline(self._max_bytes - self.size + 3)
        if not line:
            self.at_end = True
            raise StopIteration
        if not self.num_lines:
            line = line.removeprefix(BOM_UTF8)
        self.num_lines += 1
        self.lines.append(line)
        self.size += len(line)
        if self.size > self._max_bytes + 2:
            raise _TooLargeError
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            self.is_decodable = False
            return line.decode(self._encoding, "replace")


class _QuoteScanner:
    """Follows the quotes of a record that is too large to hold, to find where it ends."""

    def __init__(self, delimiter: str, quotes: bool) -> None:
        self._boundary = re.compile(f"[{re.escape(delimiter)}\n]")
        self._quotes = quotes
        self._state = "field_start"

    @property
    def is_in_quotes(self) -> bool:
        return self._state == "quoted"

    def feed(self, text: str) -> bool:
        """Takes the next characters, at most to a line's end; tells whether the record ended with them."""
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
) -> Iterator[Record]:
    """Cuts a stream into records; blank lines are left out and are no records.

    Args:
        stream: the file's bytes from its beginning.
        encoding: of the bytes; a line feed must be a byte of its own in it.
        max_bytes: records with more bytes, the line end not counted, are given as ``Oversized``.
        delimiter: one character.
        quotes: False takes quotes for ordinary characters, so that every line is a record.
        num_fields: how many fields a record must have; None takes the first record's number.

    Yields:
        The fields, ``BadRecord`` where quotes, number of fields or bytes do not fit, or ``Oversized``.

    Raises:
        DamagedFileError: ``unclosed_quote`` where the file ends inside quotes.
    """
    csv.field_size_limit(_FIELD_SIZE_LIMIT)
    lines = _RecordLines(stream, encoding, max_bytes)
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE, strict=True
    )
    while True:
        begun = lines.num_lines + 1
        lines.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _TooLargeError:
            yield _skip_record(stream, lines.lines, encoding, _QuoteScanner(delimiter, quotes), begun)
            continue
        except csv.Error as error:
            if lines.at_end:
                raise _unclosed_quote(begun) from error
            yield BadRecord(_content(lines.lines), _explained(error))
            continue
        if not fields:
            continue
        if num_fields is None:
            num_fields = len(fields)
        if len(fields) == num_fields and lines.is_decodable and lines.size <= max_bytes:
            yield fields
        else:
            yield _checked(fields, lines, num_fields, max_bytes)


def _checked(fields: list[str], lines: _RecordLines, num_fields: int, max_bytes: int) -> Record:
    content = _content(lines.lines)
    if len(content) > max_bytes:
        measure = Measure()
        measure.take(content)
        return measure.result()
    if not lines.is_decodable:
        return BadRecord(content, None)
    if len(fields) != num_fields:
        return BadRecord(content, f"expected {num_fields} fields, but it has {len(fields)}")
    return fields


def _explained(error: csv.Error) -> str:
    """Says what is wrong; of a lone carriage return the csv module says how Python should open the file."""
    return "a carriage return stands outside quotes" if "new-line" in str(error) else str(error)


def _content(lines: list[bytes]) -> bytes:
    return without_line_end(b"".join(lines))


def _skip_record(
    stream: io.BufferedReader, lines: list[bytes], encoding: str, scanner: _QuoteScanner, begun: int
) -> Oversized:
    """Reads on to the end of the record that these lines begin."""
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    measure, pieces = Measure(), iter(lines)
    while piece := next(pieces, b"") or stream.readline(PIECE_BYTES):
        measure.add(piece)
        if scanner.feed(decode(piece)):
            break
    if scanner.is_in_quotes:
        raise _unclosed_quote(begun)
    return measure.result()


def _unclosed_quote(line_number: int) -> DamagedFileError:
    return DamagedFileError(
        "unclosed_quote",
        f"The record that begins in line {line_number:,} opens a quote that nothing closes: everything from "
        f"there to the end of the file would be one field. {UNCLOSED_QUOTE_HINT}",
    )

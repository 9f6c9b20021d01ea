"""Cuts a JSON file into its records, in bounded memory: an array of objects, or objects one after another.

Records are parsed in place from a window of the file. What cannot be parsed is followed by its brackets and
quotes to its end, so that one broken record does not cost the others.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator

from beam_jobs.pipeline.read.files.lines import Measure, Oversized
from beam_jobs.pipeline.read.formats.jsonl import DECODER, JsonRecord
from beam_jobs.pipeline.read.types import DamagedFileError

_WINDOW_CHARS = 1 << 18
_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = re.compile(r'["\\{}\[\],\n]')
# No token but a string is longer; an error that far from the end of the window is none of its cut.
_LONGEST_TOKEN = 16
_SCALARS = (int, float, bool, type(None))


class _Window:
    """A part of a file's text, from ``at``; invalid bytes are lone surrogates that stand for them."""

    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        self._stream, self.encoding = stream, encoding
        self._decode = codecs.getincrementaldecoder(encoding)("surrogateescape").decode
        self.text, self.at, self.at_end = "", 0, False
        self._failure: DamagedFileError | None = None

    def fill(self, num_chars: int) -> bool:
        """Reads until there are this many characters or the file ends; returns whether any were added."""
        self.text, self.at = self.text[self.at :], 0
        size = len(self.text)
        while len(self.text) < num_chars and not self.at_end and self._failure is None:
            try:
                data = self._stream.read1(_WINDOW_CHARS)
            except DamagedFileError as error:
                self._failure = error
            else:
                self.at_end = not data
                self.text += self._decode(data, final=not data)
        if self._failure is not None and len(self.text) == size:
            raise self._failure  # only now that everything before is taken
        return len(self.text) > size

    def next_char(self) -> str:
        """Skips white space and returns the next character without taking it; empty at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self.fill(_WINDOW_CHARS):
                return self.text[self.at : self.at + 1]


def iter_values(stream: io.BufferedReader, encoding: str, max_bytes: int) -> Iterator[JsonRecord]:
    """Yields the elements of an array, or values that follow each other.

    Args:
        stream: the bytes of the file from its beginning.
        encoding: their encoding.
        max_bytes: larger records are returned as ``Oversized``.

    Raises:
        DamagedFileError: ``truncated`` if the file ends inside the array, ``broken_json`` if something else
            stands between its elements, or after it.
    """
    window = _Window(stream, encoding)
    if window.next_char() == "\ufeff":
        window.at += 1
    if window.next_char() == "[":
        window.at += 1
        yield from _elements(window, max_bytes)
        return
    while window.next_char():
        value = _next_value(window, max_bytes)
        if value == b"":
            raise _broken("a bracket closes nothing")
        yield value


def _elements(window: _Window, max_bytes: int) -> Iterator[JsonRecord]:
    follows = "," if window.next_char() != "]" else "]"
    window.at += follows == "]"
    while follows == ",":
        if not window.next_char():
            raise _truncated()
        value = _next_value(window, max_bytes)
        follows = window.next_char()
        if isinstance(value, dict) or follows in (",", "]"):  # others may be a part
            yield value
        if not follows:
            raise _truncated()
        if follows not in ",]":
            raise _broken("no comma follows an element")
        window.at += 1
    if window.next_char():
        raise _broken("something follows the array")


def _next_value(window: _Window, max_bytes: int) -> JsonRecord:
    """Takes the value that begins at the window's position."""
    while True:
        try:
            value, end = DECODER.raw_decode(window.text, window.at)
        except json.JSONDecodeError as error:
            is_cut = error.msg.startswith("Unterminated string") or (
                error.pos + _LONGEST_TOKEN > len(window.text)
            )
        except (ValueError, RecursionError):  # too many digits, a repeated name, too deep
            is_cut = False
        else:
            # The rest of a number may follow.
            is_cut = end == len(window.text) and isinstance(value, _SCALARS)
            if not is_cut or window.at_end:
                return _taken(window, value, end, max_bytes)
        left = len(window.text) - window.at
        if not is_cut or left > max_bytes or not window.fill(2 * left + _WINDOW_CHARS):
            return _skipped(window, max_bytes)


def _taken(window: _Window, value: object, end: int, max_bytes: int) -> JsonRecord:
    raw = window.text[window.at : end]
    if isinstance(value, dict) and len(raw) * 4 <= max_bytes and _is_valid(raw):
        window.at = end
        return value
    data = raw.encode(window.encoding, "surrogateescape")
    if len(data) > max_bytes:
        return _skipped(window, max_bytes)
    window.at = end
    return value if isinstance(value, dict) and _is_valid(raw) else data


def _is_valid(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


class _EndFinder:
    """Follows brackets and quotes to the end of a value that cannot be parsed.

    A line end closes a string, because JSON has none inside: so a missing quote costs one record.
    """

    def __init__(self) -> None:
        self._depth, self._in_string, self._skips = 0, False, 0

    def feed(self, text: str, at: int) -> int | None:
        """Returns where the value ends; None if it does not end in this text."""
        at += self._skips
        self._skips = 0
        while match := _MARK.search(text, at):
            at, mark = match.end(), match.group()
            if self._in_string:
                if mark == "\\":
                    at += 1
                self._in_string = mark not in '"\n'
            elif mark == '"':
                self._in_string = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]" and self._depth:
                self._depth -= 1
                if not self._depth:
                    return at
            elif not self._depth:
                return at - 1
        self._skips = max(at - len(text), 0)
        return None


def _skipped(window: _Window, max_bytes: int) -> bytes | Oversized:
    """Takes a value to its end, of which at most ``max_bytes`` are kept."""
    finder, measure, size = _EndFinder(), Measure(), 0
    kept: list[bytes] = []
    while True:
        end = finder.feed(window.text, window.at)
        data = window.text[window.at : end].encode(window.encoding, "surrogateescape")
        measure.take(data)
        size += len(data)
        kept = [*kept, data] if size <= max_bytes else []
        window.at = len(window.text) if end is None else end
        if end is not None or not window.fill(_WINDOW_CHARS):
            return b"".join(kept) if size <= max_bytes else measure.result()


def _truncated() -> DamagedFileError:
    return DamagedFileError(
        "truncated",
        "The JSON file is truncated: it ends inside its array. Everything before was read. Copy the file "
        "again and compare its size with the original.",
    )


def _broken(what: str) -> DamagedFileError:
    return DamagedFileError(
        "broken_json",
        f"Expected one JSON array of objects, or objects one after another, but {what}. Everything before "
        "was read. Repair the file.",
    )

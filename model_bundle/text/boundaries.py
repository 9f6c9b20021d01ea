"""Finds where windows of a text may end: after paragraphs and sentences, never inside code or a table.

Everything here depends on the text around a boundary alone, so that an edit moves no boundary far from it.
Why this library and these rules: docs/decisions/window-boundaries.md.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from model_bundle.errors import SettingsError

# Raised when the same text has other boundaries, or other windows between them.
_RULES = 1
# What ends at a boundary, the best place first. A heading belongs to what follows it.
PARAGRAPH, SENTENCE, LINE, WORD, TOKEN = range(5)
# Characters on each side that tell a boundary from others.
_AROUND = 32
# Quotation marks are matched within a piece only: an edit must not turn them around in the rest of the text.
_PIECE_CHARACTERS = 4000
# Text that repeats itself has no better place to be cut, and the library's time grows with the square.
_LONGEST_PIECE = 16_000
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")
_LIST_ITEM = re.compile(r"\s*([-*+•‣]|\(?\d{1,3}[.)]|[a-zA-Z]\))\s")
# Closing fences of another kind that code may hold, as an example of Markdown does.
_MOST_FENCES = 20
_ENDS = re.compile(r"[.!?…؟।][\"'”’»)\]]{0,3}\s+|[。！？]+[」』”’）]*|\n+")  # noqa: RUF001
_LINES = re.compile(r"\n")
_WORDS = re.compile(r"\s+")


class WindowsAt(StrEnum):
    """Where windows end: anywhere, after a sentence, or after a paragraph."""

    TOKENS = "tokens"
    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"


@dataclass(frozen=True)
class Boundaries:
    """Places in a text where a window may end, ascending; the last one is its end.

    ``offsets``: int64[boundaries], characters before each. ``levels``: int64[boundaries], what ends there,
    such as ``SENTENCE``.
    """

    offsets: np.ndarray
    levels: np.ndarray


def boundary_rules() -> str:
    """Returns the library and the version of the rules that boundaries depend on.

    Raises:
        SettingsError: the library is not installed.
    """
    try:
        return f"sentencex {version('sentencex')}, rules {_RULES}"
    except PackageNotFoundError as error:
        raise SettingsError(
            "--windows_at sentence and paragraph need the package sentencex: pip install sentencex"
        ) from error


def find_boundaries(text: str, language: str) -> Boundaries:
    """Finds the ends of paragraphs and sentences; code and tables are one sentence each.

    Args:
        text: any text.
        language: ISO 639 code, which abbreviations depend on.
    """
    offsets: list[int] = []
    levels: list[int] = []
    for start, block, kind in _blocks(text):
        inner = _sentences(block, language) if kind == "prose" else []
        offsets += [start + at for at in inner if at < len(block)]
        levels += [SENTENCE] * (len(offsets) - len(levels))
        offsets.append(start + len(block))
        levels.append(LINE if kind == "heading" else PARAGRAPH)
    if levels:
        levels[-1] = PARAGRAPH
    return Boundaries(np.array(offsets, dtype=np.int64), np.array(levels, dtype=np.int64))


def ends_within(text: str, start: int, stop: int, level: int) -> list[int]:
    """Returns the offsets of line or word ends inside a span of characters, ascending."""
    pattern = _LINES if level == LINE else _WORDS
    return [match.end() for match in pattern.finditer(text, start, stop) if match.end() < stop]


def boundary_keys(text: str, offsets: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns uint64[boundaries]: a hash of the characters around each, the same on every machine."""
    around = (text[max(at - _AROUND, 0) : at + _AROUND] for at in map(int, offsets))
    digests = (blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest() for part in around)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def lone_minima(places: Sequence[int], ranks: Sequence[Any], radius: int) -> np.ndarray:
    """Returns bool[boundaries]: whether each one's rank is below that of every other within ``radius``.

    Two such boundaries are always farther apart than ``radius``, and whether a boundary is one depends on
    nothing outside it.

    Args:
        places: ascending.
        ranks: of any ordered type, equal ones included.
        radius: in the unit of ``places``, inclusive.
    """
    best = np.ones(len(places), dtype=bool)
    for order in (range(len(places)), range(len(places) - 1, -1, -1)):
        rivals: list[int] = []  # of descending rank towards the past
        for at in order:
            while rivals and ranks[rivals[-1]] > ranks[at]:
                rivals.pop()
            if rivals and abs(places[at] - places[rivals[-1]]) <= radius:
                best[at] = False
            rivals.append(at)
    return best


def _blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields start, text and kind of the blocks: headings, prose, code and tables; all of the text is in one.

    Blank lines belong to the preceding block; those at the beginning to the first one.
    """
    lines = text.splitlines(keepends=True)
    closings = [n for n, line in enumerate(lines) if _FENCE.match(line) and len(set(line.strip())) == 1]
    start = at = first = 0
    while at < len(lines):
        while at < len(lines) and not lines[at].strip():
            at += 1
        stop, kind = _block_at(lines, at, closings)
        while stop < len(lines) and not lines[stop].strip():
            stop += 1
        block = "".join(lines[first:stop])
        yield start, block, kind
        start, at, first = start + len(block), stop, stop


def _block_at(lines: Sequence[str], at: int, closings: Sequence[int]) -> tuple[int, str]:
    """Returns the line after the block that begins at a line, and its kind.

    Args:
        lines: of the text.
        at: its first one.
        closings: lines that may end fenced code, ascending.
    """
    if at >= len(lines):
        return at, "prose"
    stop = _after_fence(lines, at, closings) or _after_table(lines, at)
    if stop:
        return stop, "whole"
    if _HEADING.match(lines[at]):
        return at + 1, "heading"
    stop = at + 1
    while stop < len(lines) and lines[stop].strip():
        if _HEADING.match(lines[stop]) or _after_fence(lines, stop, closings) or _after_table(lines, stop):
            break
        stop += 1
    return stop, "prose"


def _after_fence(lines: Sequence[str], at: int, closings: Sequence[int]) -> int:
    """Returns the line after a block of fenced code; 0 if none begins here or it is never closed."""
    opening = _FENCE.match(lines[at])
    if opening is None:
        return 0
    mark = opening[1]
    first = bisect_right(closings, at)
    for line in closings[first : first + _MOST_FENCES]:
        found = lines[line].strip()
        if len(found) >= len(mark) and found[0] == mark[0]:
            return line + 1
    return 0


def _after_table(lines: Sequence[str], at: int) -> int:
    """Returns the line after a table in Markdown, of rows with pipes; 0 if none begins here."""
    if "|" not in lines[at] or at + 1 >= len(lines) or "|" not in lines[at + 1]:
        return 0
    first, second = lines[at].strip(), lines[at + 1].strip()
    is_ruled = set(second) <= set("|:- \t") and "--" in second
    if not is_ruled and not (first.startswith("|") and second.startswith("|")):
        return 0
    stop = at + 2
    while stop < len(lines) and ("|" in lines[stop] if is_ruled else lines[stop].lstrip().startswith("|")):
        stop += 1
    return stop


def _sentences(block: str, language: str) -> list[int]:
    """Returns the ends of the sentences of a paragraph, list items included."""
    import sentencex

    found: list[int] = []
    for start, piece in _pieces(block):
        at = start
        # The library takes no lone surrogates; another character in their place moves nothing.
        for sentence in sentencex.segment(language, piece.encode("utf-8", "replace").decode()):
            if found and not sentence.strip():
                found.pop()  # blank lines belong to the sentence before
            at += len(sentence)
            found.append(at)
    return found


def _pieces(block: str) -> Iterator[tuple[int, str]]:
    """Yields start and text of what is split by itself: list items, and parts of long blocks."""
    cuts, at = [0], 0
    for line in block.splitlines(keepends=True):
        if at and _LIST_ITEM.match(line):
            cuts.append(at)
        at += len(line)
    for start, stop in zip(cuts, [*cuts[1:], len(block)], strict=True):
        piece = block[start:stop]
        ends = [] if len(piece) <= _PIECE_CHARACTERS else [m.end() for m in _ENDS.finditer(piece)]
        best = lone_minima(ends, boundary_keys(piece, ends).tolist(), _PIECE_CHARACTERS // 2)
        inner = [0]
        for end, is_best in zip(ends, best.tolist(), strict=True):
            if end < len(piece) and (is_best or end - inner[-1] > _LONGEST_PIECE):
                inner.append(end)
        for begin, end in zip(inner, [*inner[1:], len(piece)], strict=True):
            yield start + begin, piece[begin:end]

"""Lists of table columns as they are written on a command line."""

from __future__ import annotations

import re

_RANGE = re.compile(r"(?P<name>.*?)(?P<first>\d+)\.\.(?P=name)(?P<last>\d+)")


def expand_columns(text: str) -> tuple[str, ...]:
    """Splits a list at commas, and writes ranges out.

    >>> expand_columns("age,x_1..x_3")
    ('age', 'x_1', 'x_2', 'x_3')

    Raises:
        ValueError: a name is empty or comes twice, or a range ends before it begins.
    """
    columns = [name for part in text.split(",") for name in _expand(part.strip())]
    if "" in columns or len(set(columns)) < len(columns):
        raise ValueError(f"{text!r}: expected different column names between commas")
    return tuple(columns)


def _expand(part: str) -> list[str]:
    match = _RANGE.fullmatch(part)
    if match is None:
        return [part]
    first, last = int(match["first"]), int(match["last"])
    if last < first:
        raise ValueError(f"{part!r} ends before it begins")
    return [f"{match['name']}{number}" for number in range(first, last + 1)]

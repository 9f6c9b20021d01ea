"""Escapes values and builds HTML; everything that comes from data passes through here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def safe(value: Any) -> str:
    """Escapes a value for HTML.

    Control characters, which HTML does not allow, become spaces.

    >>> safe('<script>"a"&b')
    '&lt;script&gt;&quot;a&quot;&amp;b'
    """
    text = str(value)
    return escape("".join(c if c.isprintable() or c == "\n" else " " for c in text), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[int] = ()) -> str:
    """Builds a table with escaped cells; ``numbers`` are the right-aligned columns."""
    titles = "".join(
        f'<th scope="col"{_class(column in numbers)}>{safe(title)}</th>' for column, title in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(i in numbers)}>{_cell(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Builds a list of names and values; empty values are left out."""
    return (
        "<dl>"
        + "".join(
            f"<dt>{safe(name)}</dt><dd>{_cell(value)}</dd>" for name, value in rows if value not in (None, "")
        )
        + "</dl>"
    )


def tile(label: str, value: str, note: str = "") -> str:
    """Builds a tile: a figure with its label and an optional note."""
    small = f"<small>{safe(note)}</small>" if note else ""
    return f'<div class="tile"><span>{safe(label)}</span><b>{safe(value)}</b>{small}</div>'


def section(title: str, *parts: str) -> str:
    """Builds a section of the page."""
    return f"<section><h2>{safe(title)}</h2>{''.join(parts)}</section>"


def note(text: str) -> str:
    """Builds a line of explanation."""
    return f'<p class="note">{safe(text)}</p>'


def _cell(value: Any) -> str:
    # Isolates right-to-left text from the other cells.
    return f'<bdi dir="auto">{safe(value)}</bdi>' if isinstance(value, str) else safe(value)


def _class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""

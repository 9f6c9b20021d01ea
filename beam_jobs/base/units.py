"""Formats bytes, durations and counts for people."""

from __future__ import annotations


def count(number: int, noun: str, plural: str = "") -> str:
    """Formats a number with its noun, which is plural unless the number is 1.

    >>> count(1, "document"), count(1_200, "document"), count(0, "query", "queries")
    ('1 document', '1,200 documents', '0 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_bytes(num_bytes: int) -> str:
    """Formats a number of bytes with a suitable unit.

    >>> format_bytes(48_213), format_bytes(371_972_000), format_bytes(1_540_000_000_000)
    ('48.2 kB', '372.0 MB', '1.5 TB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:,.1f} {unit}"
    return f"{num_bytes} bytes"


def format_duration(seconds: float) -> str:
    """Formats a duration as ``m:ss`` or ``h:mm:ss``.

    >>> format_duration(75), format_duration(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe_loss(loss: float | None) -> str:
    """Returns what a precision costs in quality, in words."""
    if loss is None:
        return "its quality was not measured"
    return f"loses {loss:.2f} % of quality"

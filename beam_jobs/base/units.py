"""Numbers as people read them."""

from __future__ import annotations


def count(number: int, noun: str, plural: str = "") -> str:
    """Writes a number with its noun, which is plural unless the number is 1.

    >>> count(1, "document"), count(1_200, "document"), count(0, "query", "queries")
    ('1 document', '1,200 documents', '0 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(num_bytes: int) -> str:
    """Writes a number of bytes with the unit that fits.

    >>> size(48_213), size(371_972_000), size(1_540_000_000_000)
    ('48.2 kB', '372.0 MB', '1.5 TB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:,.1f} {unit}"
    return f"{num_bytes} bytes"

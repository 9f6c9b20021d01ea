"""Texts that no model may be trained on, because they are in the evaluation sets.

A recipe's texts are made in the same way each time, so those of them that are also in a development or
test set are known: they are listed here by digest, and left out. A test goes through the sets themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

# Digests of texts that the recipes would generate and that an evaluation set contains.
HELD_OUT = frozenset(
    {
        "4cf6cfb0d4aeddaa",
        "65f3fc101b0c1a4e",
        "837f2da344bf1648",
        "ad42535193fdc780",
        "b5d2ddf54ec40a3b",
        "c2e6db94edd571a1",
    }
)


def normalized(text: str) -> str:
    """Normalises case, spaces and punctuation of a text.

    >>> normalized("A man , a plan ."), normalized("a man, a plan")
    ('a man a plan', 'a man a plan')
    """
    return " ".join(re.findall(r"\w+", text.lower()))


def digest(text: str) -> str:
    """Returns a digest of 16 hexadecimal digits of the normalised text."""
    return hashlib.sha256(normalized(text).encode()).hexdigest()[:16]


def without_held_out(texts: Iterable[str]) -> list[str]:
    """Removes evaluation texts and duplicates."""
    return [text for text in dict.fromkeys(texts) if digest(text) not in HELD_OUT]

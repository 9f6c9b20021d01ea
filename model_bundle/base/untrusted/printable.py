"""Escapes text of others before it is shown: names, licences and errors on a screen.

A terminal obeys control characters in what it shows: it clears the screen, hides text, or shows it backwards.
"""

from __future__ import annotations

import json
import re
from typing import TextIO

# Control characters, marks and overrides of direction, line separators, tags, and halves of characters. White
# space of a message's own layout stays. Joiners stay: names in several scripts need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINES = re.compile(r"[\t\n]")


def printable(text: str) -> str:
    r"""Replaces what would not be shown as itself by its escape in JSON; keeps lines and tabs.

    >>> print(printable("a\x1b[2Jb"))
    a\u001b[2Jb
    """
    return _HIDDEN.sub(_escape, text)


def one_line(text: str) -> str:
    r"""Does the same to a name or value, which must not look like several lines.

    >>> print(one_line("a\nb"))
    a\nb
    """
    return _LINES.sub(_escape, printable(text))


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints text that may contain something of others, and flushes; None is standard output."""
    print(printable(text), file=stream, flush=True)


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]

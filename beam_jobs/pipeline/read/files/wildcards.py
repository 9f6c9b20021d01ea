r"""Patterns of paths, with the same meaning for local and remote files.

``*``, ``?`` and ``[ab]``, ``[a-c]``, ``[!ab]`` match within a name, ``**`` also across folders, and ``**/``
any number of folders, none included. None of them matches a dot at the beginning of a name. Every other
character, the backslash included, stands for itself.
"""

from __future__ import annotations

import re

WILDCARD = re.compile(r"[\[*?]")
_VISIBLE = r"(?!\.)"


def fixed_part(pattern: str) -> str:
    """Returns the folder that all matches are in, with its slash.

    >>> fixed_part("gs://b/data/2026-*/x.txt"), fixed_part("/d/a.txt")
    ('gs://b/data/', '/d/')
    """
    fixed = WILDCARD.split(pattern, maxsplit=1)[0]
    return fixed[: fixed.rindex("/") + 1]


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Translates a pattern to an expression for ``fullmatch``.

    >>> regex = pattern_regex("**/*.txt")
    >>> [name for name in ("a.txt", "x/y/a.txt", ".x/a.txt", ".txt") if regex.fullmatch(name)]
    ['a.txt', 'x/y/a.txt']
    """
    parts, at = [], 0
    while at < len(pattern):
        begins = at == 0 or pattern[at - 1] == "/"
        visible = _VISIBLE if begins else ""
        if begins and pattern.startswith("**/", at):
            part, size = rf"(?:{_VISIBLE}[^/]+/)*", 3
        elif pattern.startswith("**", at):
            part, size = rf"{visible}(?:[^/]|/{_VISIBLE})*", 2
        elif pattern[at] == "*":
            part, size = f"{visible}[^/]*", 1
        elif pattern[at] == "?":
            part, size = f"{visible}[^/]", 1
        elif pattern[at] == "[" and (end := _class_end(pattern, at)):
            part, size = visible + _class(pattern[at + 1 : end]), end + 1 - at
        else:
            part, size = re.escape(pattern[at]), 1
        parts.append(part)
        at += size
    return re.compile("".join(parts))


def _class_end(pattern: str, at: int) -> int:
    """Returns the position of the bracket that closes a class; 0 if the one at ``at`` opens none."""
    first = at + 2 if pattern.startswith("[!", at) else at + 1
    end = pattern.find("]", first + 1)
    return 0 if end < 0 or "/" in pattern[at:end] else end


def _class(body: str) -> str:
    negated, members = body.startswith("!"), []
    rest = body[negated:]
    while rest:
        is_range = len(rest) > 2 and rest[1] == "-"
        first, last = rest[0], rest[2] if is_range else rest[0]
        if first <= last:
            members.append(f"{re.escape(first)}-{re.escape(last)}")
        rest = rest[3 if is_range else 1 :]
    one_of = f"[{''.join(members)}]" if members else "(?!)"
    return f"(?!{one_of})[^/]" if negated else f"(?!/){one_of}"

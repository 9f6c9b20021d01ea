"""``--allow_ops``, for every command that makes a bundle of a SavedModel somebody else made."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_>.]*")


def add_allow_ops(parser: ArgumentParser) -> None:
    """Adds the flag; ``flags.allow_ops`` is a tuple of names of operations."""
    parser.add_argument(
        "--allow_ops",
        type=operation_names,
        default=(),
        metavar="A,B",
        help="operations that the model may use although they reach files, the network or Python, by name; "
        "the bundle records them (default: none, see docs/explanation/security.md)",
    )


def operation_names(text: str) -> tuple[str, ...]:
    """Reads names between commas.

    >>> operation_names("ReadFile, PyFunc")
    ('ReadFile', 'PyFunc')
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ArgumentTypeError(f"{name!r} is no name of an operation; write them as in ReadFile,PyFunc")
    return names

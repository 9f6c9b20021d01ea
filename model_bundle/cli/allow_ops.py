"""``--allow_ops``, for every command that loads a SavedModel somebody else made."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentTypeError, _ActionsContainer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_>.]*")


def add_allow_ops(parser: _ActionsContainer) -> None:
    """Adds ``--allow_ops``; ``flags.allow_ops`` is a tuple of names of operations."""
    parser.add_argument(
        "--allow_ops",
        type=operation_names,
        default=(),
        metavar="A,B",
        help="operations that the model may use although they reach files, the network or Python, by name "
        "(default: none, see docs/security.md)",
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


def print_allowed(bundle: ModelBundle) -> None:
    """Prints, before a model is loaded, what it may do beyond computing."""
    if bundle.allowed_ops:
        print(f"allowed: the graph may use {', '.join(bundle.allowed_ops)}", file=sys.stderr, flush=True)

"""One command of ``python -m model_bundle``, and the types of its flags."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, _ActionsContainer
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle

from model_bundle.base.flags import add_flag

_OPERATION = re.compile(r"[A-Za-z][A-Za-z0-9_>.]*")


@dataclass(frozen=True)
class Command:
    """A command: its flags, and what it does with them.

    Args:
        name: as typed.
        summary: one line of help.
        add_flags: adds the flags to a parser.
        run: prints its result and returns the exit code, None meaning 0; raises ``ModelBundleError``.
        examples: at the end of its help, without the command itself.
    """

    name: str
    summary: str
    add_flags: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int | None]
    examples: tuple[str, ...]


def yes_no(text: str) -> bool:
    """Parses yes or no."""
    if text not in ("yes", "no"):
        raise ArgumentTypeError(f"{text!r} is neither yes nor no")
    return text == "yes"


def positive(text: str) -> int:
    """Parses a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Parses names between commas; empty ones are dropped.

    >>> names("a, b,")
    ('a', 'b')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def add_bundle(parser: ArgumentParser) -> None:
    """Adds the bundle that a command reads."""
    add_flag(parser, "bundle BUNDLE", "folder, its URL or known name; @sha256:… pins its digest")


def add_output(parser: ArgumentParser) -> None:
    """Adds the bundle that a command builds."""
    add_flag(parser, "--output DIR", "folder of the new bundle", required=True, parse=Path)


def add_labels_of_bundle(parser: ArgumentParser, *, default_name: str = "that of the source") -> None:
    """Adds what a new bundle records of itself: name, licence, origin."""
    add = partial(add_flag, parser)
    add("--name NAME", f"name of the bundle (default: {default_name})")
    add("--licence ID", "licence of the model, if the source does not state one")
    add("--origin TEXT", "where the model came from, to record in the bundle")


def operation_names(text: str) -> tuple[str, ...]:
    """Parses names of operations between commas.

    >>> operation_names("ReadFile, PyFunc")
    ('ReadFile', 'PyFunc')
    """
    found = tuple(name.strip() for name in text.split(","))
    for name in found:
        if not _OPERATION.fullmatch(name):
            raise ArgumentTypeError(
                f"{name!r} is not the name of an operation; expected names as in ReadFile,PyFunc"
            )
    return found


def add_allow_ops(parser: _ActionsContainer) -> None:
    """Adds ``--allow_ops``, for SavedModels of other makers; ``flags.allow_ops`` is a tuple of names."""
    add_flag(
        parser,
        "--allow_ops A,B",
        "names of operations that the model may use although they reach files, the network or Python "
        "(default: none, see docs/explanation/security.md)",
        parse=operation_names,
        default=(),
    )


def print_allowed(bundle: ModelBundle) -> None:
    """Prints, before a model is loaded, what it may do beyond computing."""
    if bundle.allowed_ops:
        print(f"allowed: the graph may use {', '.join(bundle.allowed_ops)}", file=sys.stderr, flush=True)

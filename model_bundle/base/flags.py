"""Adds flags to a parser as they are typed, and fills dataclasses from them. ``beam_jobs`` uses it, too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

_Choices = TypeVar("_Choices")


def add_flag(
    group: argparse._ActionsContainer,
    flag: str,
    text: str,
    *,
    parse: Callable[[str], Any] | None = None,
    default: Any = None,
    choices: Sequence[str] | None = None,
    required: bool = False,
    repeat: bool = False,
    nargs: str | None = None,
) -> None:
    """Adds a flag or an argument.

    Args:
        group: a parser, or a group of one.
        flag: the name and what its value is called, as in ``--top N`` or ``run RUN``. A flag with neither a
            value nor ``choices`` is a switch.
        text: its line of help.
        repeat: whether it can be given several times; its value is a list then.
        parse: argparse's ``type``: turns what was typed into the value; ``default``'s own type for a number.
        default, choices, required, nargs: as in argparse.

    >>> parser = argparse.ArgumentParser()
    >>> add_flag(parser, "--top N", "documents per query", default=5)
    >>> add_flag(parser, "--yes", "do not ask")
    >>> parser.parse_args(["--top", "3"])
    Namespace(top=3, yes=False)
    """
    name, _, value = flag.partition(" ")
    if parse is None and isinstance(default, int | float):
        parse = type(default)
    if name.startswith("-") and not value and choices is None:
        given: dict[str, Any] = {"action": "store_true"}
    elif repeat:
        given = {"metavar": value, "type": parse, "action": "append", "default": []}
    else:
        given = {"metavar": value or None, "type": parse, "choices": choices, "nargs": nargs}
        given["default"] = default
    if required:
        given["required"] = True
    group.add_argument(name, help=text, **given)


def choices_of(kind: type[_Choices], flags: argparse.Namespace, **others: Any) -> _Choices:
    """Builds a dataclass of choices from the flags that its fields are named after.

    Args:
        kind: the dataclass.
        flags: the parsed flags.
        others: the fields that are no flag, or another value than the flag's.
    """
    wanted = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(flags).items() if name in wanted} | others)

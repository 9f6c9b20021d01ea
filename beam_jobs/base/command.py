"""The parser of ``model_bundle.base.command`` with this package's errors, and switches that take a value."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from beam_jobs.errors import UsageError
from model_bundle.base import command


class Parser(command.Parser):
    """The parser of a command; ``UsageError`` is this package's, and templates can set switches."""

    usage_error: ClassVar[type[Exception]] = UsageError

    def parse_known_args(  # type: ignore[override]  # argparse declares overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Accepts ``--switch=true`` and ``--switch=false``, too: a template gives every flag a value."""
        switches = {
            name for action in self._actions if action.const is True for name in action.option_strings
        }
        return super().parse_known_args(
            without_values(sys.argv[1:] if args is None else args, switches), namespace
        )

    def flag_names(self) -> list[str]:
        """Returns the names of all flags, as ``--name``."""
        return [name for action in self._actions for name in action.option_strings]


def without_values(args: Iterable[str], switches: set[str]) -> list[str]:
    """Returns the arguments with the values of switches resolved: true keeps the switch, false drops it.

    >>> without_values(["--a=true", "--b=False", "--c=1"], {"--a", "--b"})
    ['--a', '--c=1']
    """
    found = []
    for arg in args:
        name, equals, value = arg.partition("=")
        if name not in switches or not equals:
            found.append(arg)
        elif value.lower() == "true":
            found.append(name)
        elif value.lower() != "false":
            raise UsageError(f"{arg}: expected true or false. Use {name} alone to switch it on.")
    return found

"""The parser of a job's flags: one way for every wrong use to end, and switches that templates can set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from beam_jobs.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process, so that every wrong use ends in one way."""

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse declares NoReturn
        """Says what is wrong, and where help is."""
        raise UsageError(f"{message}. See: {self.prog} --help")

    def parse_known_args(  # type: ignore[override]  # argparse declares overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Reads ``--switch=true`` and ``--switch=false``, too: a template gives every flag a value."""
        switches = {
            name for action in self._actions if action.const is True for name in action.option_strings
        }
        return super().parse_known_args(
            without_values(sys.argv[1:] if args is None else args, switches), namespace
        )


def without_values(args: Iterable[str], switches: set[str]) -> list[str]:
    """Returns switches without their values: a true one stands alone, a false one is left out.

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
            raise UsageError(f"{arg}: expected true or false. Give {name} alone to switch it on.")
    return found

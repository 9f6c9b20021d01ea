"""What the commands share that look at runs: flags, errors, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from beam_jobs.errors import JobError, UsageError
from model_bundle.errors import ModelBundleError


class ToolParser(argparse.ArgumentParser):
    """Raises instead of leaving the process, so that every wrong use ends in one way."""

    def __init__(self, name: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"python -m beam_jobs.{name}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse declares NoReturn
        """Raises what is wrong."""
        raise UsageError(f"{message}. See: {self.prog} --help")


def run_tool(command: Callable[[], int]) -> int:
    """Runs a command and gives the exit code; an error that a user can fix is one message."""
    try:
        return command()
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModelBundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130

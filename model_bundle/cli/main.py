"""Flags to a command, and errors to an exit code."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

from model_bundle.cli.build_bert import BUILD_BERT
from model_bundle.cli.build_elmo import BUILD_ELMO
from model_bundle.cli.build_hub import BUILD_HUB
from model_bundle.cli.build_keras import BUILD_KERAS
from model_bundle.cli.command import Command
from model_bundle.cli.compare import COMPARE
from model_bundle.cli.inspect import INSPECT
from model_bundle.cli.train import TRAIN
from model_bundle.cli.transfer import PULL, PUSH
from model_bundle.cli.verify import VERIFY
from model_bundle.errors import ModelBundleError

# A new kind of source is a file beside these and an entry here.
BUILD_KINDS: tuple[Command, ...] = (BUILD_BERT, BUILD_ELMO, BUILD_HUB, BUILD_KERAS)
COMMANDS: tuple[Command, ...] = (VERIFY, INSPECT, COMPARE, TRAIN, PUSH, PULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, also when the reader of a pipe has had enough; 1 where a comparison finds differences; 2 where the
        user can mend it, with one message on standard error; 130 when interrupted.
    """
    flags = _parser().parse_args(arguments)
    run: Callable[[Namespace], int | None] = flags.run
    code = None
    try:
        code = run(flags)
        sys.stdout.flush()
    except ModelBundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Else Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code or 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m model_bundle",
        description="Build, check and describe model bundles: a SavedModel and all it takes to use it.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser("build", help="make a bundle of a saved model", allow_abbrev=False)
    kinds = build.add_subparsers(metavar="KIND", required=True)
    for command in BUILD_KINDS:
        _add(kinds, command)
    for command in COMMANDS:
        _add(commands, command)
    return parser


def _add(subparsers: Any, command: Command) -> None:
    parser = subparsers.add_parser(
        command.name, help=command.summary, description=command.summary, allow_abbrev=False
    )
    command.add_flags(parser)
    parser.set_defaults(run=command.run)

"""The commands of ``python -m model_bundle``."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from model_bundle.base.command import Parser, run_command
from model_bundle.cli.build_bert import BUILD_BERT
from model_bundle.cli.build_elmo import BUILD_ELMO
from model_bundle.cli.build_hub import BUILD_HUB
from model_bundle.cli.build_keras import BUILD_KERAS
from model_bundle.cli.command import Command
from model_bundle.cli.compare import COMPARE
from model_bundle.cli.inspect import INSPECT
from model_bundle.cli.quantize import QUANTIZE
from model_bundle.cli.train import TRAIN
from model_bundle.cli.transfer import PULL, PUSH
from model_bundle.cli.verify import VERIFY

# A new kind of source is a file next to these and an entry here.
BUILD_KINDS: tuple[Command, ...] = (BUILD_BERT, BUILD_ELMO, BUILD_HUB, BUILD_KERAS)
COMMANDS: tuple[Command, ...] = (VERIFY, INSPECT, COMPARE, QUANTIZE, TRAIN, PUSH, PULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0; 1 where a comparison finds differences, or the disk, network or a permission failed; 2 for errors
        that the user can fix, with one message on standard error; 130 when interrupted.
    """

    def run() -> int | None:
        flags = bundle_parser().parse_args(arguments)
        code: int | None = flags.run(flags)
        return code

    return run_command(run)


def bundle_parser() -> Parser:
    """Builds the parser of all commands."""
    parser = Parser(
        prog="python -m model_bundle",
        description="Builds, checks and describes model bundles: a SavedModel and all it takes to use it.",
        examples=[f"build bert {BUILD_BERT.examples[0]}", *_first_examples(VERIFY, INSPECT)],
        has_version=True,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    build = commands.add_parser(
        "build",
        help="build a bundle from a saved model",
        examples=_first_examples(*BUILD_KINDS),
    )
    kinds = build.add_subparsers(metavar="KIND", required=True)
    for command in BUILD_KINDS:
        _add(kinds, command)
    for command in COMMANDS:
        _add(commands, command)
    return parser


def _first_examples(*commands: Command) -> list[str]:
    return [f"{command.name} {command.examples[0]}" for command in commands]


def _add(subparsers: Any, command: Command) -> None:
    parser: ArgumentParser = subparsers.add_parser(
        command.name, help=command.summary, description=command.summary, examples=command.examples
    )
    command.add_flags(parser)
    parser.set_defaults(run=command.run)

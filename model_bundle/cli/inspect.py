"""``inspect``: describes a bundle on one page."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show
from model_bundle.cli.command import Command, add_bundle

# A pipe has no width; this fits a digest and its name.
_PLAIN_WIDTH = 100


def _add_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_flag(parser, "--json", "print the whole manifest as JSON")


def _run(flags: Namespace) -> None:
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.bundle.describe import describe, page

    bundle = ModelBundle.open(flags.bundle, allow_recorded=True)  # nothing is loaded
    if flags.json:
        show(json.dumps(describe(bundle), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    # Printed here and not by rich, which ends the process by itself when the reader of a pipe has gone.
    with console.capture() as captured:
        console.print(page(bundle))
    print(captured.get(), end="")


INSPECT = Command(
    "inspect",
    "describe a bundle on one page",
    _add_flags,
    _run,
    ("bert-mini", "elmo-mini --json"),
)

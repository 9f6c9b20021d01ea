"""``inspect``: what a bundle is, on a page."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from model_bundle.cli.command import Command

# A pipe has no width; this holds a digest and its name.
_PLAIN_WIDTH = 100


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a folder, gs:// URL or name; @sha256:… pins its digest"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, the whole manifest")


def _run(flags: Namespace) -> None:
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.bundle.describe import describe, page

    bundle = ModelBundle.open(flags.bundle, allow_recorded=True)  # nothing is loaded
    if flags.json:
        print(json.dumps(describe(bundle), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(page(bundle))


INSPECT = Command("inspect", "describe a bundle on a page", _add_flags, _run)

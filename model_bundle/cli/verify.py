"""``verify``: checks that a bundle is complete and reproduces its golden vectors here."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.base.untrusted.printable import show
from model_bundle.cli.command import Command, add_allow_ops, add_bundle

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle


def _add_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_allow_ops(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.base.confined import run_confined
    from model_bundle.base.sandbox import Limits
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.bundle.graph_scan.allowed_operations import reaches_outside
    from model_bundle.inference.verify import describe_opened

    bundle = ModelBundle.open(flags.bundle, flags.allow_ops)
    for line in describe_opened(bundle):
        show(f"ok  {line}")
    with tempfile.TemporaryDirectory(prefix="verify-") as own:
        limits = Limits(Path(own), (bundle.path.resolve(),))
        is_free = any(map(reaches_outside, bundle.allowed_ops))
        run_confined(None if is_free else limits, _check, bundle)


def _check(bundle: ModelBundle) -> None:
    """Loads and checks, in the confined process."""
    from model_bundle.inference.verify import check_loaded

    for line in check_loaded(bundle):
        show(f"ok  {line}")


VERIFY = Command(
    "verify",
    "check a bundle's files, signatures and golden vectors",
    _add_flags,
    _run,
    ("bert-mini", "bundles/l12"),
)

"""``verify``: checks that a bundle is complete and reproduces its golden vectors here."""

from __future__ import annotations

from argparse import Namespace

from model_bundle.cli.command import Command, add_bundle


def _run(flags: Namespace) -> None:
    from model_bundle.inference.verify import verify

    for line in verify(flags.bundle):
        print(f"ok  {line}", flush=True)


VERIFY = Command(
    "verify",
    "check a bundle's files, signatures and golden vectors",
    add_bundle,
    _run,
    ("bert-mini", "bundles/l12"),
)

"""``verify``: is this bundle whole, and does it give its golden vectors here?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from model_bundle.cli.command import Command


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a folder, gs:// URL or name; @sha256:… pins its digest"
    )


def _run(flags: Namespace) -> None:
    from model_bundle.inference.verify import verify

    for line in verify(flags.bundle):
        print(f"ok  {line}", flush=True)


VERIFY = Command("verify", "check a bundle's files, signatures and golden vectors", _add_flags, _run)

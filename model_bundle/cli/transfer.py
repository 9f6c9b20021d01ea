"""``push`` and ``pull``: a bundle to shared storage by its digest, and back into a folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.cli.command import Command


def _add_push_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a folder, gs:// URL or name; @sha256:… pins its digest"
    )
    parser.add_argument(
        "store", metavar="gs://DIR", help="the bundle goes to a folder below, named by its digest"
    )


def _push(flags: Namespace) -> None:
    from model_bundle.bundle.transfer import push_bundle

    url, num_sent = push_bundle(flags.bundle, flags.store)
    print(f"{url}@sha256:{url.rpartition('/')[2]}")
    print(f"{num_sent} files sent" if num_sent else "it was there already")


def _add_pull_flags(parser: ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="a gs:// URL or name; @sha256:… pins its digest")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new folder")


def _pull(flags: Namespace) -> None:
    from model_bundle.bundle.transfer import pull_bundle

    bundle = pull_bundle(flags.bundle, flags.folder)
    print(f"{bundle.path}@sha256:{bundle.digest}")


PUSH = Command("push", "send a bundle to shared storage, under its digest", _add_push_flags, _push)
PULL = Command("pull", "copy a bundle from elsewhere into a folder", _add_pull_flags, _pull)

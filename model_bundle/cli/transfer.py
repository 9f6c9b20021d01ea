"""``push`` and ``pull``: copy a bundle to shared storage under its digest, and back to a folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.base.flags import add_flag
from model_bundle.base.untrusted.printable import show
from model_bundle.cli.command import Command, add_bundle


def _add_push_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_flag(
        parser,
        "store URL",
        "upload destination, gs://, s3:// or az://; the bundle is stored in a subfolder named after its "
        "digest",
    )


def _push(flags: Namespace) -> None:
    from model_bundle.bundle.transfer import push_bundle

    url, num_sent = push_bundle(flags.bundle, flags.store)
    show(f"{url}@sha256:{url.rpartition('/')[2]}")
    files = "1 file" if num_sent == 1 else f"{num_sent} files"
    show(f"{files} uploaded" if num_sent else "it was there already; nothing was uploaded")


def _add_pull_flags(parser: ArgumentParser) -> None:
    add_bundle(parser)
    add_flag(parser, "folder DIR", "new folder for the bundle", parse=Path)


def _pull(flags: Namespace) -> None:
    from model_bundle.bundle.transfer import pull_bundle

    bundle = pull_bundle(flags.bundle, flags.folder)
    show(f"{bundle.path}@sha256:{bundle.digest}")


PUSH = Command(
    "push",
    "upload a bundle to shared storage, under its digest",
    _add_push_flags,
    _push,
    ("bundles/l12 gs://my-bucket/bundles",),
)
PULL = Command(
    "pull",
    "download a bundle to a folder",
    _add_pull_flags,
    _pull,
    ("bert-mini bundles/bert-mini", "gs://my-bucket/bundles/DIGEST bundles/l12"),
)

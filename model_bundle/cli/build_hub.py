"""``build hub``: builds bundles from TF-Hub modules."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from model_bundle.base.printable import show
from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.command import (
    Command,
    add_allow_ops,
    add_labels_of_bundle,
    add_output,
    positive,
    yes_no,
)
from model_bundle.cli.expected import add_expected_flags, build_held_to_old

_MODULE = "folder, archive of one (.tar.gz, .tgz, .tar, .zip), or file://, gs:// or http(s):// URL"


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("module", metavar="HANDLE|DIR", help=f"module: {_MODULE}")
    add_output(parser)
    parser.add_argument(
        "--signature",
        metavar="NAME",
        help="signature to use; call means the module's __call__ (default: the one for words, if any, else "
        "the standard one)",
    )
    parser.add_argument(
        "--preprocess",
        metavar="HANDLE|DIR",
        help="for BERT encoders: the preprocessing module that produces token ids",
    )
    parser.add_argument(
        "--word_split",
        choices=["spaces", "unicode"],
        help="for modules that take words: split at spaces only, as in google/elmo (default), or also at "
        "punctuation",
    )
    parser.add_argument(
        "--max_tokens", type=positive, metavar="N", help="for modules that take words: maximum words per text"
    )
    parser.add_argument(
        "--pooling",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
        help="how token states become one vector (default: mean)",
    )
    parser.add_argument(
        "--normalize",
        type=yes_no,
        default=False,
        metavar="yes|no",
        help="scale vectors to length 1 (default: no)",
    )
    add_labels_of_bundle(parser, default_name="that of the module")
    add_allow_ops(parser)
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.tfhub.build import build_hub_bundle
    from model_bundle.builders.tfhub.resolve import HubChoices
    from model_bundle.bundle.bundle import ModelBundle

    choices = HubChoices(
        signature=flags.signature,
        preprocess=flags.preprocess,
        word_split=flags.word_split,
        max_tokens=flags.max_tokens,
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
        normalize=flags.normalize,
        name=flags.name,
        licence=flags.licence,
        origin=flags.origin,
        allow_ops=flags.allow_ops,
    )

    def build(output: Path) -> ModelBundle:
        built = build_hub_bundle(flags.module, choices, output)
        for note in built.notes:
            show(note)
        return built.bundle

    bundle = build_held_to_old(flags, build)
    show(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


BUILD_HUB = Command(
    "hub",
    "TF-Hub modules: ELMo, Universal Sentence Encoders, BERT",
    _add_flags,
    _run,
    (
        "python -m model_bundle build hub modules/elmo_3.tar.gz --output bundles/elmo",
        "python -m model_bundle build hub modules/bert --preprocess modules/pre --output bundles/bert",
    ),
)

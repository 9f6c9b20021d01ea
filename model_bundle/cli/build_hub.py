"""``build hub``: builds bundles from TF-Hub modules."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from model_bundle.base.flags import add_flag, choices_of
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
    add = partial(add_flag, parser)
    add("module HANDLE|DIR", f"module: {_MODULE}")
    add_output(parser)
    add(
        "--signature NAME",
        "signature to use; call means the module's __call__ (default: the one for words, if any, else "
        "the standard one)",
    )
    add("--preprocess HANDLE|DIR", "for BERT encoders: the preprocessing module that produces token ids")
    add(
        "--word_split",
        "for modules that take words: split at spaces only, as in google/elmo (default), or also at "
        "punctuation",
        choices=["spaces", "unicode"],
    )
    add("--max_tokens N", "for modules that take words: maximum words per text", parse=positive)
    add(
        "--pooling",
        "how token states become one vector (default: mean)",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
    )
    add("--normalize yes|no", "scale vectors to length 1 (default: no)", parse=yes_no, default=False)
    add_labels_of_bundle(parser, default_name="that of the module")
    add_allow_ops(parser)
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.tfhub.build import build_hub_bundle
    from model_bundle.builders.tfhub.resolve import HubChoices

    pooling = None if flags.pooling is None else Pooling(flags.pooling)
    choices = choices_of(HubChoices, flags, pooling=pooling)
    build_held_to_old(flags, lambda output: build_hub_bundle(flags.module, choices, output))


BUILD_HUB = Command(
    "hub",
    "TF-Hub modules: ELMo, Universal Sentence Encoders, BERT",
    _add_flags,
    _run,
    (
        "modules/elmo_3.tar.gz --output bundles/elmo",
        "modules/bert --preprocess modules/pre --output bundles/bert",
    ),
)

"""``build hub``: builds bundles from TF-Hub modules."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.bundle.specs import Pooling
from model_bundle.cli.command import (
    Command,
    add_allow_ops,
    add_labels_of_bundle,
    add_output,
    positive,
    yes_no,
)
from model_bundle.cli.expected import add_expected_flags, build_to, old_files, print_built

if TYPE_CHECKING:
    from model_bundle.builders.tfhub.handle import HubModule
    from model_bundle.builders.tfhub.resolve import HubChoices

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
        "--pooling P",
        "how token states become one vector: mean, max, first, last, mean_sqrt_len or weighted_mean "
        "(default: mean)",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
    )
    add("--normalize yes|no", "scale vectors to length 1 (default: no)", parse=yes_no, default=False)
    add_labels_of_bundle(parser, default_name="that of the module")
    add_allow_ops(parser)
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.tfhub.build import fetched_modules
    from model_bundle.builders.tfhub.resolve import HubChoices
    from model_bundle.cli.sandboxed import build_sandboxed

    pooling = None if flags.pooling is None else Pooling(flags.pooling)
    choices = choices_of(HubChoices, flags, pooling=pooling)
    old = old_files(flags)
    with fetched_modules(flags.module, choices) as modules:
        bundle = build_sandboxed(
            flags.output,
            _build,
            flags,
            modules,
            choices,
            readable=[*(module.path for module in modules), *old],
            allow_ops=flags.allow_ops,
        )
    print_built(bundle)


def _build(output: Path, flags: Namespace, modules: tuple[HubModule, ...], choices: HubChoices) -> None:
    """Builds, in the confined process."""
    from model_bundle.builders.tfhub.build import build_fetched

    build_to(output, flags, lambda folder: build_fetched(modules, choices, folder))


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

"""``build hub``: modules of TF-Hub to a bundle."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.allow_ops import add_allow_ops
from model_bundle.cli.command import Command, positive, yes_no
from model_bundle.cli.expected import add_expected_flags, build_held_to_old, old_files

if TYPE_CHECKING:
    from model_bundle.builders.tfhub.handle import HubModule
    from model_bundle.builders.tfhub.resolve import HubChoices
    from model_bundle.bundle.bundle import ModelBundle

_MODULE = "a folder, an archive of one (.tar.gz, .tgz, .tar, .zip), file://, gs:// or http(s)://"


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("module", metavar="HANDLE|DIR", help=f"the module: {_MODULE}")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the bundle to make")
    parser.add_argument(
        "--signature",
        metavar="NAME",
        help="which signature to use; call is the module's own __call__ (default: words where it takes "
        "them, else the usual one)",
    )
    parser.add_argument(
        "--preprocess",
        metavar="HANDLE|DIR",
        help="for a BERT encoder: the module that makes its token ids",
    )
    parser.add_argument(
        "--word_split",
        choices=["spaces", "unicode"],
        help="where the module takes words: they are what stands between spaces, as in google/elmo "
        "(default), or punctuation marks are words, too",
    )
    parser.add_argument(
        "--max_tokens", type=positive, metavar="N", help="where the module takes words: how many of a text"
    )
    parser.add_argument(
        "--pooling",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
        help="token states to a vector (default: mean)",
    )
    parser.add_argument(
        "--normalize", type=yes_no, default=False, metavar="yes|no", help="vectors to length 1 (default: no)"
    )
    parser.add_argument("--name", help="what to call the bundle (default: as the module)")
    parser.add_argument("--licence", metavar="ID", help="the model's licence, where the module does not say")
    parser.add_argument("--origin", help="what to record as the place the module came from")
    add_allow_ops(parser)
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.tfhub.build import fetched_modules
    from model_bundle.builders.tfhub.resolve import HubChoices
    from model_bundle.cli.sandboxed import build_sandboxed

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

    with fetched_modules(flags.module, choices) as modules:
        bundle = build_sandboxed(
            flags.output,
            _build,
            flags,
            modules,
            choices,
            readable=[*(module.path for module in modules), *old_files(flags)],
            allow_ops=flags.allow_ops,
        )
    print(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


def _build(folder: Path, flags: Namespace, modules: tuple[HubModule, ...], choices: HubChoices) -> None:
    """Builds, in the confined process."""
    from model_bundle.builders.tfhub.build import build_fetched

    def build(output: Path) -> ModelBundle:
        built = build_fetched(modules, choices, output)
        for note in built.notes:
            print(note)
        return built.bundle

    build_held_to_old(Namespace(**vars(flags) | {"output": folder}), build)


BUILD_HUB = Command("hub", "modules of TF-Hub: ELMo, Universal Sentence Encoders, BERT", _add_flags, _run)

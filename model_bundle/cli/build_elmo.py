"""``build elmo``: the files of bilm and AllenNLP to a bundle."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from model_bundle.cli.command import Command
from model_bundle.cli.expected import add_expected_flags, build_held_to_old


def _numbers(text: str) -> tuple[float, ...]:
    """Reads numbers between commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: expected numbers between commas, as in 0.2,0.3,0.5") from error


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--options", required=True, type=Path, metavar="FILE", help="options.json")
    parser.add_argument("--weights", required=True, type=Path, metavar="FILE", help="weights.hdf5")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the bundle to make")
    mix = parser.add_mutually_exclusive_group()
    mix.add_argument(
        "--layer_weights",
        type=_numbers,
        metavar="A,B,C",
        help="final factor of each layer, word vectors first (default: the plain mean)",
    )
    mix.add_argument(
        "--layer_logits",
        type=_numbers,
        metavar="A,B,C",
        help="the same before the softmax, as bilm and AllenNLP train them",
    )
    parser.add_argument("--gamma", type=float, default=1.0, help="scale of the mix (default: 1)")
    parser.add_argument(
        "--no_boundaries",
        action="store_true",
        help="put no begin and end of sentence around the words inside the model",
    )
    parser.add_argument(
        "--word_split",
        choices=["spaces", "unicode"],
        default="spaces",
        help="words are what stands between spaces, as in google/elmo (default), or punctuation marks are "
        "words, too",
    )
    parser.add_argument("--name", help="what to call the bundle (default: elmo)")
    parser.add_argument("--licence", metavar="ID", help="the model's licence")
    parser.add_argument("--origin", help="what to record as the place the model came from")
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle

    choices = ElmoChoices(
        layer_weights=flags.layer_weights,
        layer_logits=flags.layer_logits,
        gamma=flags.gamma,
        boundaries=not flags.no_boundaries,
        word_split=flags.word_split,
        name=flags.name,
        licence=flags.licence,
        origin=flags.origin,
    )
    bundle = build_held_to_old(
        flags, lambda output: build_elmo_bundle(flags.options, flags.weights, choices, output)
    )
    print(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


BUILD_ELMO = Command("elmo", "ELMo from options.json and weights.hdf5", _add_flags, _run)

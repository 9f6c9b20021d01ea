"""``build elmo``: builds bundles from the files of bilm and AllenNLP."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from model_bundle.base.printable import show
from model_bundle.cli.command import Command, add_labels_of_bundle, add_output
from model_bundle.cli.expected import add_expected_flags, build_held_to_old


def _numbers(text: str) -> tuple[float, ...]:
    """Parses numbers between commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: expected numbers between commas, as in 0.2,0.3,0.5") from error


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--options", required=True, type=Path, metavar="FILE", help="the model's options.json"
    )
    parser.add_argument(
        "--weights", required=True, type=Path, metavar="FILE", help="the model's weights.hdf5"
    )
    add_output(parser)
    mix = parser.add_mutually_exclusive_group()
    mix.add_argument(
        "--layer_weights",
        type=_numbers,
        metavar="A,B,C",
        help="final weight of each layer, word vectors first (default: their mean)",
    )
    mix.add_argument(
        "--layer_logits",
        type=_numbers,
        metavar="A,B,C",
        help="layer weights before the softmax, as bilm and AllenNLP train them",
    )
    parser.add_argument(
        "--gamma", type=float, default=1.0, metavar="G", help="scale of the mixed vector (default: 1)"
    )
    parser.add_argument(
        "--no_boundaries",
        action="store_true",
        help="do not add begin- and end-of-sentence markers around the words",
    )
    parser.add_argument(
        "--word_split",
        choices=["spaces", "unicode"],
        default="spaces",
        help="split words at spaces only, as in google/elmo (default), or also at punctuation",
    )
    add_labels_of_bundle(parser, default_name="elmo")
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
    show(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


BUILD_ELMO = Command(
    "elmo",
    "ELMo from options.json and weights.hdf5",
    _add_flags,
    _run,
    (
        "python -m model_bundle build elmo --options o.json --weights w.hdf5 --output bundles/elmo",
        "python -m model_bundle build elmo --options o.json --weights w.hdf5 --gamma 2 --output bundles/elmo",
    ),
)

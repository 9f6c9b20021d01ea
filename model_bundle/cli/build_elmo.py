"""``build elmo``: builds bundles from the files of bilm and AllenNLP."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.cli.command import Command, add_labels_of_bundle, add_output
from model_bundle.cli.expected import add_expected_flags, build_held_to_old


def _numbers(text: str) -> tuple[float, ...]:
    """Parses numbers between commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: expected numbers between commas, as in 0.2,0.3,0.5") from error


def _add_flags(parser: ArgumentParser) -> None:
    add = partial(add_flag, parser)
    add("--options FILE", "the model's options.json", required=True, parse=Path)
    add("--weights FILE", "the model's weights.hdf5", required=True, parse=Path)
    add_output(parser)
    mix = parser.add_mutually_exclusive_group()
    add_mix = partial(add_flag, mix)
    add_mix(
        "--layer_weights A,B,C",
        "final weight of each layer, word vectors first (default: their mean)",
        parse=_numbers,
    )
    add_mix(
        "--layer_logits A,B,C",
        "layer weights before the softmax, as bilm and AllenNLP train them",
        parse=_numbers,
    )
    add("--gamma G", "scale of the mixed vector (default: 1)", default=1.0)
    add("--no_boundaries", "do not add begin- and end-of-sentence markers around the words")
    add(
        "--word_split",
        "split words at spaces only, as in google/elmo (default), or also at punctuation",
        choices=["spaces", "unicode"],
        default="spaces",
    )
    add_labels_of_bundle(parser, default_name="elmo")
    add_expected_flags(parser)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.assemble import Built
    from model_bundle.builders.elmo.build import ElmoChoices, build_elmo_bundle

    choices = choices_of(ElmoChoices, flags, boundaries=not flags.no_boundaries)
    build_held_to_old(
        flags, lambda output: Built(build_elmo_bundle(flags.options, flags.weights, choices, output))
    )


BUILD_ELMO = Command(
    "elmo",
    "ELMo from options.json and weights.hdf5",
    _add_flags,
    _run,
    (
        "--options o.json --weights w.hdf5 --output bundles/elmo",
        "--options o.json --weights w.hdf5 --gamma 2 --output bundles/elmo",
    ),
)

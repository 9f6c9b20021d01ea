"""``build keras``: builds bundles from Keras and TensorFlow models, however they were saved."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import get_args

from model_bundle.base.printable import show
from model_bundle.builders.keras.input_roles import Role
from model_bundle.builders.keras.options import expand_columns
from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.command import (
    Command,
    add_allow_ops,
    add_labels_of_bundle,
    add_output,
    names,
    positive,
    yes_no,
)
from model_bundle.cli.expected import add_expected_flags, build_held_to_old


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="SavedModel folder, .keras or .h5 file, JSON architecture, weights, checkpoint, or a folder "
        "that holds one of them",
    )
    add_output(parser)
    _add_loading(parser)
    _add_meaning(parser)
    add_allow_ops(parser)
    add_expected_flags(parser)
    add_labels_of_bundle(parser)


def _add_loading(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("loading")
    group.add_argument("--signature", metavar="NAME", help="signature of a SavedModel to use")
    group.add_argument(
        "--weights",
        type=Path,
        metavar="F",
        help="weights of a JSON architecture: .h5, .weights.h5 or a checkpoint",
    )
    group.add_argument(
        "--model_factory",
        metavar="MODULE:FUNCTION",
        help="function that builds the model, if only weights were saved",
    )
    group.add_argument(
        "--custom_objects",
        type=names,
        default=(),
        metavar="MODULE:NAME,…",
        help="classes and functions that the file refers to; NAME=MODULE:OTHER for one with another name",
    )
    group.add_argument(
        "--lambda_function",
        action="append",
        default=[],
        type=_pair,
        metavar="LAYER=MODULE:FUNCTION",
        help="function to use instead of the byte code of a Lambda layer; repeat for several",
    )
    group.add_argument(
        "--hub_handle",
        action="append",
        default=[],
        type=_pair,
        metavar="OLD=DIR",
        help="folder of a TF-Hub module whose handle is stored in the model; repeat for several",
    )
    group.add_argument(
        "--allow_code",
        action="store_true",
        help="run Python code contained in the file, with your permissions",
    )


def _add_meaning(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what the model does not state")
    group.add_argument(
        "--input",
        action="append",
        default=[],
        type=_role,
        metavar="NAME=" + "|".join(get_args(Role)),
        help="what to feed an input; repeat for several",
    )
    group.add_argument(
        "--extra_input",
        action="append",
        default=[],
        type=_columns,
        metavar="NAME=COLUMN,…",
        help="table columns for a numeric input; x_1..x_9 means all nine; repeat for several",
    )
    group.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="folder of the tokenizer (default: the one next to the model)",
    )
    group.add_argument(
        "--max_tokens", type=positive, metavar="N", help="maximum tokens, special ones included"
    )
    group.add_argument("--lowercase", type=yes_no, metavar="yes|no", help="lower-case texts (default: no)")
    group.add_argument(
        "--word_split",
        choices=["spaces", "unicode"],
        help="for models that take words: split at spaces only, or also at punctuation",
    )
    group.add_argument(
        "--task", choices=["embed", "classify"], help="write vectors or scores (default: detected)"
    )
    group.add_argument("--labels", type=Path, metavar="F", help="file of class names: one per line, or JSON")
    group.add_argument("--default_output", metavar="NAME", help="output that jobs write")
    group.add_argument(
        "--scores",
        choices=["as_is", "softmax", "sigmoid"],
        help="activation applied to the classifier output (default: detected)",
    )
    group.add_argument(
        "--multi_label",
        type=yes_no,
        default=False,
        metavar="yes|no",
        help="whether several classes may apply at once (default: no)",
    )
    group.add_argument(
        "--pooling",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
        help="how token states become one vector (default: mean)",
    )
    group.add_argument(
        "--normalize",
        type=yes_no,
        default=False,
        metavar="yes|no",
        help="scale vectors to length 1 (default: no)",
    )


def _run(flags: Namespace) -> None:
    from model_bundle.builders.keras.build import build_keras_bundle
    from model_bundle.builders.keras.options import KerasChoices, LoadChoices
    from model_bundle.bundle.bundle import ModelBundle

    loading = LoadChoices(
        weights=flags.weights,
        model_factory=flags.model_factory,
        custom_objects=flags.custom_objects,
        lambdas=dict(flags.lambda_function),
        hub_handles={old: Path(folder) for old, folder in flags.hub_handle},
        allow_code=flags.allow_code,
    )
    choices = KerasChoices(
        loading=loading,
        signature=flags.signature,
        inputs=dict(flags.input),
        extra_inputs=dict(flags.extra_input),
        tokenizer=flags.tokenizer,
        max_tokens=flags.max_tokens,
        labels=flags.labels,
        lowercase=flags.lowercase,
        word_split=flags.word_split,
        task=flags.task,
        default_output=flags.default_output,
        scores=flags.scores,
        multi_label=flags.multi_label,
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
        normalize=flags.normalize,
        allow_ops=flags.allow_ops,
        name=flags.name,
        licence=flags.licence,
        origin=flags.origin,
    )

    def build(output: Path) -> ModelBundle:
        built = build_keras_bundle(Path(flags.source), choices, output)
        for note in built.notes:
            show(note)
        return built.bundle

    bundle = build_held_to_old(flags, build)
    show(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.rpartition("=")
    if not (found and name and value):
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _role(text: str) -> tuple[str, str]:
    name, role = _pair(text)
    if role not in get_args(Role):
        raise ArgumentTypeError(f"{role!r} is none of {', '.join(get_args(Role))}")
    return name, role


def _columns(text: str) -> tuple[str, tuple[str, ...]]:
    name, found, columns = text.partition("=")
    if not (found and name and columns):
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=COLUMN,COLUMN")
    try:
        return name, expand_columns(columns)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


BUILD_KERAS = Command(
    "keras",
    "Keras and TensorFlow models, however they were saved",
    _add_flags,
    _run,
    (
        "python -m model_bundle build keras models/topics.keras --labels topics.txt --output bundles/topics",
        "python -m model_bundle build keras models/export --signature default --output bundles/export",
    ),
)

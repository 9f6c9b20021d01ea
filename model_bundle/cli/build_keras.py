"""``build keras``: builds bundles from Keras and TensorFlow models, however they were saved."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from model_bundle.base.flags import add_flag, choices_of
from model_bundle.builders.keras.input_roles import Role
from model_bundle.builders.keras.options import expand_columns
from model_bundle.bundle.specs import Pooling
from model_bundle.cli.command import (
    Command,
    add_allow_ops,
    add_labels_of_bundle,
    add_output,
    names,
    positive,
    yes_no,
)
from model_bundle.cli.expected import add_expected_flags, build_to, old_files, print_built

if TYPE_CHECKING:
    from model_bundle.builders.keras.build import Exported
    from model_bundle.builders.keras.options import KerasChoices
    from model_bundle.builders.keras.source import KerasSource


def _add_flags(parser: ArgumentParser) -> None:
    add_flag(
        parser,
        "source SOURCE",
        "SavedModel folder, .keras or .h5 file, JSON architecture, weights, checkpoint, or a folder "
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
    add = partial(add_flag, group)
    add("--signature NAME", "signature of a SavedModel to use")
    add("--weights F", "weights of a JSON architecture: .h5, .weights.h5 or a checkpoint", parse=Path)
    add("--model_factory MODULE:FUNCTION", "function that builds the model, if only weights were saved")
    add(
        "--custom_objects MODULE:NAME,…",
        "classes and functions that the file refers to; NAME=MODULE:OTHER for one with another name",
        parse=names,
        default=(),
    )
    add(
        "--lambda_function LAYER=MODULE:FUNCTION",
        "function to use instead of the byte code of a Lambda layer; repeat for several",
        parse=_pair,
        repeat=True,
    )
    add(
        "--hub_handle OLD=DIR",
        "folder of a TF-Hub module whose handle is stored in the model; repeat for several",
        parse=_pair,
        repeat=True,
    )
    add("--allow_code", "run Python code contained in the file, with your permissions")


def _add_meaning(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what the model does not state")
    add = partial(add_flag, group)
    add(
        "--input " + "NAME=" + "|".join(get_args(Role)),
        "what to feed an input; repeat for several",
        parse=_role,
        repeat=True,
    )
    add(
        "--extra_input NAME=COLUMN,…",
        "table columns for a numeric input; x_1..x_9 means all nine; repeat for several",
        parse=_columns,
        repeat=True,
    )
    add("--tokenizer DIR", "folder of the tokenizer (default: the one next to the model)", parse=Path)
    add("--max_tokens N", "maximum tokens, special ones included", parse=positive)
    add("--lowercase yes|no", "lower-case texts (default: no)", parse=yes_no)
    add(
        "--word_split",
        "for models that take words: split at spaces only, or also at punctuation",
        choices=["spaces", "unicode"],
    )
    add("--task", "write vectors or scores (default: detected)", choices=["embed", "classify"])
    add("--labels F", "file of class names: one per line, or JSON", parse=Path)
    add("--default_output NAME", "output that jobs write")
    add(
        "--scores",
        "activation applied to the classifier output (default: detected)",
        choices=["as_is", "softmax", "sigmoid"],
    )
    add(
        "--multi_label yes|no",
        "whether several classes may apply at once (default: no)",
        parse=yes_no,
        default=False,
    )
    add("--single_text", "the classes are of single texts, although their names suggest two (entailment)")
    add(
        "--pooling P",
        "how token states become one vector: mean, max, first, last, mean_sqrt_len or weighted_mean "
        "(default: mean)",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
    )
    add("--normalize yes|no", "scale vectors to length 1 (default: no)", parse=yes_no, default=False)


def _run(flags: Namespace) -> None:
    from model_bundle.builders.assemble import check_output
    from model_bundle.builders.keras.build import exported_model
    from model_bundle.builders.keras.options import KerasChoices, LoadChoices
    from model_bundle.builders.keras.sidecar_files import files_beside, folders_beside
    from model_bundle.cli.sandboxed import build_sandboxed

    hub_handles = {old: Path(folder) for old, folder in flags.hub_handle}
    choices = choices_of(
        KerasChoices,
        flags,
        loading=choices_of(LoadChoices, flags, lambdas=dict(flags.lambda_function), hub_handles=hub_handles),
        inputs=dict(flags.input),
        extra_inputs=dict(flags.extra_input),
        pooling=None if flags.pooling is None else Pooling(flags.pooling),
    )
    check_output(flags.output)
    old = old_files(flags)
    with exported_model(Path(flags.source), choices) as (source, exported):
        named = [path for path in (flags.tokenizer, flags.labels) if path is not None]
        bundle = build_sandboxed(
            flags.output,
            _build,
            flags,
            source,
            exported,
            choices,
            readable=[exported.path, *files_beside(source.path), *named, *old],
            listed=folders_beside(source.path),
            allow_ops=flags.allow_ops,
        )
    print_built(bundle)


def _build(
    output: Path, flags: Namespace, source: KerasSource, exported: Exported, choices: KerasChoices
) -> None:
    """Builds, in the confined process."""
    from model_bundle.builders.keras.build import build_exported

    build_to(output, flags, lambda folder: build_exported(source, exported, choices, folder))


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
        "models/topics.keras --labels topics.txt --output bundles/topics",
        "models/export --signature default --output bundles/export",
    ),
)

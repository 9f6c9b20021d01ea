"""``build keras``: Keras and TensorFlow models, however they were saved, to a bundle."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from model_bundle.builders.keras.input_roles import Role
from model_bundle.builders.keras.options import expand_columns
from model_bundle.bundle.manifest import Pooling
from model_bundle.cli.allow_ops import add_allow_ops
from model_bundle.cli.command import Command, positive, yes_no
from model_bundle.cli.expected import add_expected_flags, build_held_to_old, old_files

if TYPE_CHECKING:
    from model_bundle.builders.keras.build import Exported
    from model_bundle.builders.keras.options import KerasChoices
    from model_bundle.builders.keras.source import KerasSource
    from model_bundle.bundle.bundle import ModelBundle


def _add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a SavedModel's folder, a .keras or .h5 file, an architecture in JSON, weights or a checkpoint, "
        "or a folder that holds one of them",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the bundle to make")
    _add_loading(parser)
    _add_meaning(parser)
    add_allow_ops(parser)
    add_expected_flags(parser)
    parser.add_argument("--name", help="what to call the bundle (default: as the source)")
    parser.add_argument("--licence", metavar="ID", help="the model's licence, where the source does not say")
    parser.add_argument("--origin", help="what to record as the place the model came from")


def _add_loading(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("loading")
    group.add_argument("--signature", metavar="NAME", help="which signature of a SavedModel to use")
    group.add_argument(
        "--weights", type=Path, metavar="F", help="weights of an architecture: .h5, .weights.h5, a checkpoint"
    )
    group.add_argument(
        "--model_factory",
        metavar="MODULE:FUNCTION",
        help="what makes the model, where only weights were saved",
    )
    group.add_argument(
        "--custom_objects",
        type=_names,
        default=(),
        metavar="MODULE:NAME,…",
        help="classes and functions that the file names; NAME=MODULE:OTHER under another name",
    )
    group.add_argument(
        "--lambda_function",
        action="append",
        default=[],
        type=_pair,
        metavar="LAYER=MODULE:FUNCTION",
        help="your own function in the place of a Lambda layer's byte code; repeat for several",
    )
    group.add_argument(
        "--hub_handle",
        action="append",
        default=[],
        type=_pair,
        metavar="OLD=DIR",
        help="the folder of a TF-Hub module whose handle is stored in the model; repeat for several",
    )
    group.add_argument(
        "--allow_code",
        action="store_true",
        help="run Python code that the file itself contains, with your rights",
    )


def _add_meaning(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what the model does not say")
    group.add_argument(
        "--input",
        action="append",
        default=[],
        type=_role,
        metavar="NAME=" + "|".join(get_args(Role)),
        help="what an input is fed; repeat for several",
    )
    group.add_argument(
        "--extra_input",
        action="append",
        default=[],
        type=_columns,
        metavar="NAME=COLUMN,…",
        help="table columns for an input of numbers; x_1..x_9 stands for nine of them",
    )
    group.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="the tokenizer's folder (default: as it lies beside)"
    )
    group.add_argument("--max_tokens", type=positive, metavar="N", help="limit, special tokens counted")
    group.add_argument("--lowercase", type=yes_no, metavar="yes|no", help="lower-case texts (default: no)")
    group.add_argument(
        "--word_split", choices=["spaces", "unicode"], help="what words are, where the model takes words"
    )
    group.add_argument(
        "--task", choices=["embed", "classify"], help="vectors or scores (default: as it shows)"
    )
    group.add_argument("--labels", type=Path, metavar="F", help="names of the classes, one a line or JSON")
    group.add_argument("--default_output", metavar="NAME", help="which output jobs write")
    group.add_argument(
        "--scores",
        choices=["as_is", "softmax", "sigmoid"],
        help="what makes scores of a classifier's output (default: as it shows)",
    )
    group.add_argument(
        "--multi_label",
        type=yes_no,
        default=False,
        metavar="yes|no",
        help="classes do not exclude each other",
    )
    group.add_argument(
        "--pooling",
        choices=[p.value for p in Pooling if p is not Pooling.POOLER],
        help="token states to a vector (default: mean)",
    )
    group.add_argument(
        "--normalize", type=yes_no, default=False, metavar="yes|no", help="vectors to length 1 (default: no)"
    )


def _run(flags: Namespace) -> None:
    from model_bundle.builders.assemble import check_output
    from model_bundle.builders.keras.build import exported_model
    from model_bundle.builders.keras.options import KerasChoices, LoadChoices
    from model_bundle.builders.keras.sidecar_files import files_beside, folders_beside
    from model_bundle.cli.sandboxed import build_sandboxed

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

    check_output(flags.output)
    with exported_model(Path(flags.source), choices) as (source, exported):
        named = [path for path in (flags.tokenizer, flags.labels) if path is not None]
        bundle = build_sandboxed(
            flags.output,
            _build,
            flags,
            source,
            exported,
            choices,
            readable=[exported.path, *files_beside(source.path), *named, *old_files(flags)],
            listed=folders_beside(source.path),
            allow_ops=flags.allow_ops,
        )
    print(f"built: {bundle.path}\ndigest: sha256:{bundle.digest}")


def _build(
    folder: Path, flags: Namespace, source: KerasSource, exported: Exported, choices: KerasChoices
) -> None:
    """Builds, in the confined process."""
    from model_bundle.builders.keras.build import build_exported

    def build(output: Path) -> ModelBundle:
        built = build_exported(source, exported, choices, output)
        for note in built.notes:
            print(note)
        return built.bundle

    build_held_to_old(Namespace(**vars(flags) | {"output": folder}), build)


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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


BUILD_KERAS = Command("keras", "Keras and TensorFlow models, however they were saved", _add_flags, _run)

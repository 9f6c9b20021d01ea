"""Builds model bundles from saved Keras and TensorFlow models of any version."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model_bundle.base.untrusted.printable import one_line
from model_bundle.builders.assemble import (
    LICENCE_NAME,
    Built,
    assemble,
    check_output,
    golden_check,
    needed_parts,
    save_module,
)
from model_bundle.builders.deterministic import stabilize_loaded
from model_bundle.builders.keras.load.child import LoadAnswer, LoadTask
from model_bundle.builders.keras.load.parent import Generation, plan, run_task
from model_bundle.builders.keras.options import KerasChoices, LoadChoices
from model_bundle.builders.keras.resolve import ResolvedKeras, resolve_keras
from model_bundle.builders.keras.source import KerasSource, find_source
from model_bundle.builders.licence import Licence, read_licence
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tfhub.handle import HubModule
from model_bundle.builders.tfhub.load import LoadedModule, load_module
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import sha256_of
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.specs import SourceSpec
from model_bundle.errors import SourceError

_TOKENIZER_PREFIX = "tokenizer/"
# Error messages of Keras 2 and 3 on a class or function that they do not know.
_UNKNOWN = re.compile(
    r"Unknown (layer|activation|initializer|regularizer|constraint|object)|Cannot deserialize object"
    r"|Could not (locate|deserialize|interpret) (class|function|activation)"
    r"|is not defined|Could not find|could not be found"
)
_OWN_CODE = (
    "\nIf that is a class or function of your own code, name it: --custom_objects MODULE:NAME,… "
    "(under another name: OLD=MODULE:NAME), from a folder where Python finds the module."
)
Run = Callable[[LoadTask, Generation], LoadAnswer]


@dataclass(frozen=True)
class Exported:
    """The SavedModel of a source, saved here or found, and notes for the user.

    ``compared_with``: as in ``SourceSpec``. ``renamed``: as in ``LoadAnswer``.
    """

    path: Path
    notes: tuple[str, ...] = ()
    compared_with: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)


def build_keras_bundle(place: Path, choices: KerasChoices, output: Path, run: Run = run_task) -> Built:
    """Finds and loads a model, resolves how it is used, exports it and assembles its bundle.

    Args:
        place: see ``find_source``.
        choices: settings that are not in the model.
        output: the folder to create.
        run: carries out a task; by default in a new process.

    Raises:
        SourceError: the model cannot be loaded or used, or its use is ambiguous.
        MissingExtraError: its graph needs a package that is not installed.
        ForbiddenOperationError: its graph could do more than compute.
    """
    check_output(output)
    with exported_model(place, choices, run) as (source, exported):
        return build_exported(source, exported, choices, output)


@contextmanager
def exported_model(
    place: Path, choices: KerasChoices, run: Run = run_task
) -> Iterator[tuple[KerasSource, Exported]]:
    """Finds a model and has it loaded elsewhere; what was saved of it goes when the context ends."""
    source = find_source(place)
    with tempfile.TemporaryDirectory(prefix="keras-model-") as scratch:
        folder = Path(scratch) / "exported"
        yield source, saved_model_of(source, choices.loading, folder, run, choices.allow_ops)


def build_exported(source: KerasSource, exported: Exported, choices: KerasChoices, output: Path) -> Built:
    """Settles and assembles what was exported. See ``build_keras_bundle``."""
    check_output(output)
    choices = choices.renamed(exported.renamed)
    with tempfile.TemporaryDirectory(prefix="keras-model-") as scratch:
        loaded = load_module(_module(source, exported), choices.allow_ops)
        resolved = resolve_keras(loaded, source.path, choices, Path(scratch))
        bundle = _assemble(source, exported, loaded, resolved, choices, output)
    return Built(bundle, (f"read: {source.title} {source.path}", *exported.notes, *resolved.notes))


def saved_model_of(
    source: KerasSource, choices: LoadChoices, directory: Path, run: Run, allow_ops: Sequence[str] = ()
) -> Exported:
    """Returns the SavedModel of a source: the source itself, or one saved by the Keras that made it.

    Raises:
        SourceError: it does not load; lists the error of each Keras version that was tried.
    """
    if source.kind == "saved_model":
        _reject_load_options(source, choices)
        return Exported(source.path)
    task, generations, notes = plan(source, choices, directory, allow_ops)
    faults: dict[str, list[str]] = {}
    for generation in generations:
        answer = run(task, generation)
        if answer.fault is None:
            found = answer.compared_with
            compared = () if found is None else (f"results compared with {found}",)
            names = tuple(
                f"input {one_line(old)} of the model is {one_line(new)} here"
                for old, new in answer.renamed.items()
            )
            notes = (f"loaded by Keras {generation}", *notes, *answer.notes, *compared, *names)
            return Exported(directory, notes, found, answer.renamed)
        faults.setdefault(answer.fault, []).append(str(generation))
        shutil.rmtree(Path(f"{directory}.scratch"), ignore_errors=True)
    hint = _OWN_CODE if any(_UNKNOWN.search(fault) for fault in faults) else ""
    errors = "\n".join(f"Keras {' and '.join(numbers)}: {fault}" for fault, numbers in faults.items())
    raise SourceError(f"{source.path} does not load.\n{errors}{hint}")


def _reject_load_options(source: KerasSource, choices: LoadChoices) -> None:
    given = {
        "--weights": choices.weights,
        "--model_factory": choices.model_factory,
        "--custom_objects": choices.custom_objects,
        "--lambda_function": choices.lambdas,
        "--hub_handle": choices.hub_handles,
        "--allow_code": choices.allow_code,
    }
    for flag, value in given.items():
        if value:
            raise SourceError(
                f"{flag}: {source.path} is a SavedModel, which needs nothing else. Omit the option."
            )


def _module(source: KerasSource, exported: Exported) -> HubModule:
    name = _name(source)
    remedy = "The files are damaged or incomplete; copy or export the model again."
    return HubModule(exported.path, name, name, remedy)


def _name(source: KerasSource) -> str:
    """Names a model after its file or folder, or after a parent of saved_model or a version number."""
    path = source.path.resolve()
    while path.is_dir() and (path.name.isdigit() or path.name == SAVED_MODEL_DIR):
        path = path.parent
    return path.name if path.is_dir() or source.kind == "checkpoint" else path.stem


def _assemble(
    source: KerasSource,
    exported: Exported,
    loaded: LoadedModule,
    resolved: ResolvedKeras,
    choices: KerasChoices,
    output: Path,
) -> ModelBundle:
    folder = SourceFolder(source.path if source.path.is_dir() else source.path.parent)
    location = choices.origin or loaded.module.location
    packed = resolved.packed
    if packed is not None and choices.licence is None:
        licence = packed.licence
    else:
        licence = read_licence(folder, location, choices.licence)
    described = SourceSpec(
        kind="keras",
        location=location,
        files=_digests(source, resolved),
        compared_with=exported.compared_with,
    )
    manifest = _manifest(loaded, resolved, choices, described, licence)

    def write_files(staging: Path) -> None:
        (staging / LICENCE_NAME).write_text(licence.text, encoding="utf-8")
        if resolved.subwords is not None:
            (staging / TOKENIZER_FILE).parent.mkdir()
            (staging / TOKENIZER_FILE).write_text(resolved.subwords.json_text, encoding="utf-8")
        _export(loaded, resolved, staging / SAVED_MODEL_DIR)

    return assemble(output, manifest, write_files, check_golden=golden_check(resolved.model))


def _export(loaded: LoadedModule, resolved: ResolvedKeras, directory: Path) -> None:
    """Saves the chosen function with the objects it uses, without optimizer and other signatures."""
    import tensorflow as tf

    signature = resolved.model.signature
    module = tf.Module()
    module.parts = needed_parts(loaded.loaded, signature)
    save_module(module, directory, {resolved.model.function.name: signature})
    stabilize_loaded(directory / "saved_model.pb")


def _manifest(
    loaded: LoadedModule,
    resolved: ResolvedKeras,
    choices: KerasChoices,
    source: SourceSpec,
    licence: Licence,
) -> BundleManifest:
    model, outputs = resolved.model, resolved.outputs
    return BundleManifest(
        name=choices.name or loaded.module.name,
        task=outputs.task,
        family="keras",
        signature=model.function.name,
        inputs=model.inputs(),
        outputs=outputs.specs,
        default_output=outputs.default,
        tokenizer=model.tokenizer,
        max_tokens=resolved.max_tokens,
        pooling=outputs.pooling,
        normalize=choices.normalize,
        labels=outputs.labels,
        multi_label=outputs.multi_label,
        regression=outputs.regression,
        scores=outputs.scores,
        min_batch=resolved.behaviour.min_batch,
        batch_dependent=resolved.behaviour.batch_dependent,
        freeze=resolved.freeze_reason is None,
        freeze_reason=resolved.freeze_reason,
        custom_ops=loaded.custom_ops,
        allowed_ops=loaded.allowed_ops,
        zero_inputs=resolved.zero_inputs,
        source=source,
        licence=licence.identifier,
    )


def _digests(source: KerasSource, resolved: ResolvedKeras) -> dict[str, str]:
    """Returns the sha256 of every file that was read."""
    top = source.path if source.path.is_dir() else source.path.parent
    files = {path.relative_to(top).as_posix(): sha256_of(path) for path in _files(source)}
    if resolved.sidecar is not None:
        files |= {
            _TOKENIZER_PREFIX + name: digest for name, digest in resolved.sidecar.folder.digests().items()
        }
    if resolved.packed is not None:
        files |= resolved.packed.digests
    return files


def _files(source: KerasSource) -> Iterator[Path]:
    if source.kind == "saved_model":
        yield from sorted(path for path in source.path.rglob("*") if path.is_file())
    elif source.kind == "checkpoint":
        yield from sorted(source.path.parent.glob(f"{source.path.name}.*"))
    else:
        yield source.path

"""Saved Keras and TensorFlow models, however old, to model bundles."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_bundle.builders.assemble import LICENCE_NAME, assemble, check_output, save_module
from model_bundle.builders.hub_stable import stabilize_loaded
from model_bundle.builders.keras.load.parent import Generation, plan, run_task
from model_bundle.builders.keras.load.task import LoadAnswer, LoadTask
from model_bundle.builders.keras.options import KerasChoices, LoadChoices
from model_bundle.builders.keras.prune import needed_parts
from model_bundle.builders.keras.resolve import SettledKeras, settle_keras
from model_bundle.builders.keras.source import KerasSource, find_source
from model_bundle.builders.licence import Licence, read_licence
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tfhub.build import golden_check
from model_bundle.builders.tfhub.handle import HubModule
from model_bundle.builders.tfhub.load import LoadedModule, load_module
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import sha256_of
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE, BundleManifest, SourceSpec
from model_bundle.errors import SourceError

_BESIDE = "tokenizer/"
# What either Keras says of a class or function that it does not know.
_UNKNOWN = re.compile(
    r"Unknown (layer|activation|object)|Could not (locate|deserialize) class|Cannot deserialize object"
    r"|is not defined|Could not find|could not be found"
)
_OWN_CODE = (
    "\nWhere that is a class or function of your own code, name it: --custom_objects MODULE:NAME,… "
    "(under another name: OLD=MODULE:NAME), from a folder where Python finds the module."
)
Run = Callable[[LoadTask, Generation], LoadAnswer]


@dataclass(frozen=True)
class KerasBuild:
    """A bundle, and what its user should know of it, a line each."""

    bundle: ModelBundle
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Exported:
    """A SavedModel, made or found, and what was noticed on the way."""

    path: Path
    notes: tuple[str, ...] = ()


def build_keras_bundle(place: Path, choices: KerasChoices, output: Path, run: Run = run_task) -> KerasBuild:
    """Finds, loads, settles, exports and assembles.

    Args:
        place: see ``find_source``.
        choices: see there.
        output: the folder to make.
        run: has a task done; by default in a new process.

    Raises:
        SourceError: the model cannot be loaded or used, or can be read in several ways.
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


def build_exported(
    source: KerasSource, exported: Exported, choices: KerasChoices, output: Path
) -> KerasBuild:
    """Settles and assembles what was exported. See ``build_keras_bundle``."""
    check_output(output)
    with tempfile.TemporaryDirectory(prefix="keras-model-") as scratch:
        loaded = load_module(_module(source, exported), choices.allow_ops)
        settled = settle_keras(loaded, source.path, choices, Path(scratch))
        bundle = _assemble(source, loaded, settled, choices, output)
    return KerasBuild(bundle, (f"read: {source.title} {source.path}", *exported.notes, *settled.notes))


def saved_model_of(
    source: KerasSource, choices: LoadChoices, directory: Path, run: Run, allow_ops: Sequence[str] = ()
) -> Exported:
    """Returns the SavedModel of a source: itself, or one that the Keras that made it saves of it.

    Raises:
        SourceError: it does not load; says what each Keras that was tried says.
    """
    if source.kind == "saved_model":
        _refuse_loading(source, choices)
        return Exported(source.path)
    task, generations, notes = plan(source, choices, directory, allow_ops)
    faults: dict[str, list[str]] = {}
    for generation in generations:
        answer = run(task, generation)
        if answer.fault is None:
            return Exported(directory, (f"loaded by Keras {generation}", *notes, *answer.notes))
        faults.setdefault(answer.fault, []).append(str(generation))
        shutil.rmtree(Path(f"{directory}.scratch"), ignore_errors=True)
    hint = _OWN_CODE if any(_UNKNOWN.search(fault) for fault in faults) else ""
    told = "\n".join(f"Keras {' and '.join(numbers)}: {fault}" for fault, numbers in faults.items())
    raise SourceError(f"{source.path} does not load.\n{told}{hint}")


def _refuse_loading(source: KerasSource, choices: LoadChoices) -> None:
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
                f"{flag}: {source.path} is a SavedModel, which holds all it needs. Leave it out."
            )


def _module(source: KerasSource, exported: Exported) -> HubModule:
    name = _name(source)
    remedy = "The files are damaged or incomplete; copy or export the model again."
    return HubModule(exported.path, name, name, remedy)


def _name(source: KerasSource) -> str:
    """Names a model after its file or folder, or one above that says more than saved_model/1 does."""
    path = source.path.resolve()
    while path.is_dir() and (path.name.isdigit() or path.name == SAVED_MODEL_DIR):
        path = path.parent
    return path.name if path.is_dir() or source.kind == "checkpoint" else path.stem


def _assemble(
    source: KerasSource,
    loaded: LoadedModule,
    settled: SettledKeras,
    choices: KerasChoices,
    output: Path,
) -> ModelBundle:
    folder = SourceFolder(source.path if source.path.is_dir() else source.path.parent)
    location = choices.origin or loaded.module.location
    inside = settled.inside
    if inside is not None and choices.licence is None:
        licence = inside.licence
    else:
        licence = read_licence(folder, location, choices.licence)
    described = SourceSpec(kind="keras", location=location, files=_digests(source, settled))
    manifest = _manifest(loaded, settled, choices, described, licence)

    def write_files(staging: Path) -> None:
        (staging / LICENCE_NAME).write_text(licence.text, encoding="utf-8")
        if settled.subwords is not None:
            (staging / TOKENIZER_FILE).parent.mkdir()
            (staging / TOKENIZER_FILE).write_text(settled.subwords.json_text, encoding="utf-8")
        _export(loaded, settled, staging / SAVED_MODEL_DIR)

    return assemble(output, manifest, write_files, check_golden=golden_check(settled.model))


def _export(loaded: LoadedModule, settled: SettledKeras, directory: Path) -> None:
    """Saves the chosen function with what it uses: no optimizer, no other signature."""
    import tensorflow as tf

    signature = settled.model.signature
    module = tf.Module()
    module.parts = needed_parts(loaded.loaded, signature)
    save_module(module, directory, {settled.model.function.name: signature})
    stabilize_loaded(directory / "saved_model.pb")


def _manifest(
    loaded: LoadedModule,
    settled: SettledKeras,
    choices: KerasChoices,
    source: SourceSpec,
    licence: Licence,
) -> BundleManifest:
    model, outputs = settled.model, settled.outputs
    return BundleManifest(
        name=choices.name or loaded.module.name,
        task=outputs.task,
        family="keras",
        signature=model.function.name,
        inputs=model.inputs(),
        outputs=outputs.specs,
        default_output=outputs.default,
        tokenizer=model.tokenizer,
        max_tokens=settled.max_tokens,
        pooling=outputs.pooling,
        normalize=choices.normalize,
        labels=outputs.labels,
        multi_label=outputs.multi_label,
        regression=outputs.regression,
        scores=outputs.scores,
        min_batch=settled.behaviour.min_batch,
        batch_dependent=settled.behaviour.batch_dependent,
        freeze=settled.freeze_reason is None,
        freeze_reason=settled.freeze_reason,
        custom_ops=loaded.custom_ops,
        allowed_ops=loaded.allowed_ops,
        source=source,
        licence=licence.identifier,
    )


def _digests(source: KerasSource, settled: SettledKeras) -> dict[str, str]:
    """Returns the sha256 of every file that was read."""
    top = source.path if source.path.is_dir() else source.path.parent
    files = {path.relative_to(top).as_posix(): sha256_of(path) for path in _files(source)}
    if settled.beside is not None:
        files |= {_BESIDE + name: digest for name, digest in settled.beside.folder.digests().items()}
    if settled.inside is not None:
        files |= settled.inside.digests
    return files


def _files(source: KerasSource) -> Iterator[Path]:
    if source.kind == "saved_model":
        yield from sorted(path for path in source.path.rglob("*") if path.is_file())
    elif source.kind == "checkpoint":
        yield from sorted(source.path.parent.glob(f"{source.path.name}.*"))
    else:
        yield source.path

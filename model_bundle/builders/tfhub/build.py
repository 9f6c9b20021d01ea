"""Builds model bundles from TF-Hub modules in the formats of TensorFlow 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from model_bundle.builders.assemble import (
    LICENCE_NAME,
    Built,
    assemble,
    check_output,
    golden_check,
    save_module,
)
from model_bundle.builders.deterministic import stabilize_loaded
from model_bundle.builders.licence import Licence, read_licence
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tfhub.handle import HubModule, fetched_module
from model_bundle.builders.tfhub.load import LoadedModule, load_module
from model_bundle.builders.tfhub.resolve import HubChoices, ResolvedModule, resolve_module
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.specs import SourceSpec

_PREPROCESS = "preprocess/"


def build_hub_bundle(handle: str, choices: HubChoices, output: Path) -> Built:
    """Fetches a module, resolves how it is used, exports it and assembles its bundle.

    Args:
        handle: see ``fetched_module``.
        choices: settings that are not in the module.
        output: the folder to create.

    Raises:
        SourceError: the module cannot be fetched or used, or a setting does not fit it.
        MissingExtraError: its graph needs a package that is not installed.
        ForbiddenOperationError: its graph could do more than compute.
    """
    check_output(output)
    with fetched_modules(handle, choices) as modules:
        return build_fetched(modules, choices, output)


@contextmanager
def fetched_modules(handle: str, choices: HubChoices) -> Iterator[tuple[HubModule, ...]]:
    """Fetches the module, and the one that ``choices.preprocess`` names; nothing of them is loaded."""
    with ExitStack() as stack:
        handles = [handle, *([] if choices.preprocess is None else [choices.preprocess])]
        yield tuple(stack.enter_context(fetched_module(one)) for one in handles)


def build_fetched(modules: Sequence[HubModule], choices: HubChoices, output: Path) -> Built:
    """Builds from modules in local folders. See ``build_hub_bundle``."""
    check_output(output)
    loaded, *helpers = [load_module(module, choices.allow_ops) for module in modules]
    helper = helpers[0] if helpers else None
    resolved = resolve_module(loaded, helper, choices)
    return Built(_assemble(loaded, helper, resolved, choices, output), resolved.notes)


def _assemble(
    loaded: LoadedModule,
    helper: LoadedModule | None,
    resolved: ResolvedModule,
    choices: HubChoices,
    output: Path,
) -> ModelBundle:
    folder = SourceFolder(loaded.module.path)
    licence = read_licence(folder, choices.origin or loaded.module.location, choices.licence)
    manifest = _manifest(loaded, helper, resolved, choices, licence)

    def write_files(staging: Path) -> None:
        (staging / LICENCE_NAME).write_text(licence.text, encoding="utf-8")
        _export(loaded, helper, resolved, staging / SAVED_MODEL_DIR)

    return assemble(output, manifest, write_files, check_golden=golden_check(resolved.reference))


def _export(
    loaded: LoadedModule, helper: LoadedModule | None, resolved: ResolvedModule, directory: Path
) -> None:
    """Saves the chosen function under its name, and the module's other signatures as they are.

    They must be passed by name: saving a loaded module alone drops them silently.
    """
    import tensorflow as tf

    module = tf.Module()
    module.sources = [one.loaded for one in (loaded, helper) if one is not None]  # owns weights and tables
    signatures = {} if helper is not None else dict(loaded.signatures)
    signatures[resolved.model.function.name] = resolved.model.signature()
    save_module(module, directory, signatures)
    stabilize_loaded(directory / "saved_model.pb")


def _manifest(
    loaded: LoadedModule,
    helper: LoadedModule | None,
    resolved: ResolvedModule,
    choices: HubChoices,
    licence: Licence,
) -> BundleManifest:
    modules = [loaded] if helper is None else [loaded, helper]
    model = resolved.model
    return BundleManifest(
        name=choices.name or loaded.module.name,
        task="embed",
        family="hub",
        signature=model.function.name,
        inputs=model.inputs(),
        outputs=resolved.outputs,
        default_output=resolved.default_output,
        tokenizer=model.tokenizer,
        max_tokens=model.max_tokens,
        pooling=resolved.pooling,
        normalize=choices.normalize,
        min_batch=resolved.behaviour.min_batch,
        batch_dependent=resolved.behaviour.batch_dependent,
        freeze=resolved.freeze_reason is None,
        freeze_reason=resolved.freeze_reason,
        custom_ops=tuple(sorted({package for one in modules for package in one.custom_ops})),
        allowed_ops=tuple(sorted({name for one in modules for name in one.allowed_ops})),
        source=_source(loaded, helper, choices),
        licence=licence.identifier,
    )


def _source(loaded: LoadedModule, helper: LoadedModule | None, choices: HubChoices) -> SourceSpec:
    files = _digests(loaded.module.path)
    location = choices.origin or loaded.module.location
    if helper is not None:
        files |= {_PREPROCESS + path: digest for path, digest in _digests(helper.module.path).items()}
        location = f"{location} with {helper.module.location}"
    return SourceSpec(kind="hub", location=location, files=files)


def _digests(path: Path) -> dict[str, str]:
    folder = SourceFolder(path)
    folder.mark(tuple(file for file in path.rglob("*") if file.is_file()))
    return folder.digests()

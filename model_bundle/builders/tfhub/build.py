"""TF-Hub modules, TF1's and TF2's, to model bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, check_output, save_module
from model_bundle.builders.batch_probe import DIFFERENT, largest_difference
from model_bundle.builders.hub_stable import stabilize_loaded
from model_bundle.builders.licence import Licence, read_licence
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tfhub.handle import HubModule, fetched_module
from model_bundle.builders.tfhub.load import LoadedModule, load_module
from model_bundle.builders.tfhub.resolve import HubChoices, Settled, settle
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest, SourceSpec
from model_bundle.errors import SourceError
from model_bundle.runtime.golden import Golden

_PREPROCESS = "preprocess/"


@dataclass(frozen=True)
class HubBuild:
    """A bundle, and what its user should know of it, a line each."""

    bundle: ModelBundle
    notes: tuple[str, ...]


def build_hub_bundle(handle: str, choices: HubChoices, output: Path) -> HubBuild:
    """Fetches, settles, exports and assembles.

    Args:
        handle: see ``fetched_module``.
        choices: see there.
        output: the folder to make.

    Raises:
        SourceError: the module cannot be had or used, or a choice does not fit it.
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


def build_fetched(modules: Sequence[HubModule], choices: HubChoices, output: Path) -> HubBuild:
    """The same for modules that are here. See ``build_hub_bundle``."""
    check_output(output)
    loaded, *helpers = [load_module(module, choices.allow_ops) for module in modules]
    helper = helpers[0] if helpers else None
    settled = settle(loaded, helper, choices)
    return HubBuild(_assemble(loaded, helper, settled, choices, output), settled.notes)


def _assemble(
    loaded: LoadedModule, helper: LoadedModule | None, settled: Settled, choices: HubChoices, output: Path
) -> ModelBundle:
    folder = SourceFolder(loaded.module.path)
    licence = read_licence(folder, choices.origin or loaded.module.location, choices.licence)
    manifest = _manifest(loaded, helper, settled, choices, licence)

    def write_files(staging: Path) -> None:
        (staging / LICENCE_NAME).write_text(licence.text, encoding="utf-8")
        _export(loaded, helper, settled, staging / SAVED_MODEL_DIR)

    return assemble(output, manifest, write_files, check_golden=golden_check(settled.reference))


def _export(loaded: LoadedModule, helper: LoadedModule | None, settled: Settled, directory: Path) -> None:
    """Saves the chosen function under its name, and the module's other signatures as they are.

    They have to be named: saving a loaded module alone drops them without a word.
    """
    import tensorflow as tf

    module = tf.Module()
    module.sources = [one.loaded for one in (loaded, helper) if one is not None]  # owns weights and tables
    signatures = {} if helper is not None else dict(loaded.signatures)
    signatures[settled.model.function.name] = settled.model.signature()
    save_module(module, directory, signatures)
    stabilize_loaded(directory / "saved_model.pb")


def _manifest(
    loaded: LoadedModule,
    helper: LoadedModule | None,
    settled: Settled,
    choices: HubChoices,
    licence: Licence,
) -> BundleManifest:
    modules = [loaded] if helper is None else [loaded, helper]
    model = settled.model
    return BundleManifest(
        name=choices.name or loaded.module.name,
        task="embed",
        family="hub",
        signature=model.function.name,
        inputs=model.inputs(),
        outputs=settled.outputs,
        default_output=settled.default_output,
        tokenizer=model.tokenizer,
        max_tokens=model.max_tokens,
        pooling=settled.pooling,
        normalize=choices.normalize,
        min_batch=settled.behaviour.min_batch,
        batch_dependent=settled.behaviour.batch_dependent,
        freeze=settled.freeze_reason is None,
        freeze_reason=settled.freeze_reason,
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


class _Runs(Protocol):
    """What gives outputs by name for arrays by role."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


def golden_check(reference: _Runs) -> Callable[[Golden], None]:
    """Makes the check that the exported model gives what the module gave before.

    The check raises ``SourceError`` where it does not; padding does not count.
    """

    def check(golden: Golden) -> None:
        expected = reference.run(golden.inputs)
        for name, found in golden.outputs.items():
            rows = _real(found, golden.mask), _real(expected[name], golden.mask)
            difference = largest_difference({name: rows[0]}, {name: rows[1]})
            if difference > DIFFERENT:
                raise SourceError(
                    f"Saved again, the module gives another {name}, off by {difference:.1g} of its size; "
                    "expected is the same. TensorFlow cannot save this one; nothing was built."
                )

    return check


def _real(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Drops padded positions of token states."""
    return array[:, : mask.shape[1]][mask > 0] if array.ndim == 3 else array

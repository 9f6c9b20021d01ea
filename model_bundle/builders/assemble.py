"""The last step of every builder: writes and checks a bundle's files, and publishes them in one rename."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model_bundle.base.cache import staging
from model_bundle.builders.batch_probe import DIFFERENT, largest_difference
from model_bundle.builders.deterministic import stabilize
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import bundle_digest, list_files
from model_bundle.bundle.manifest import MANIFEST_NAME, SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.specs import Precision
from model_bundle.errors import SourceError
from model_bundle.runtime.golden import GOLDEN_TEXTS, Golden, ReferenceVectors
from model_bundle.runtime.inputs import example_numbers, signature_inputs
from model_bundle.text import as_taken, text_input

LICENCE_NAME = "LICENSE"


@dataclass(frozen=True)
class Built:
    """A bundle, and notes for its user, one per line."""

    bundle: ModelBundle
    notes: tuple[str, ...] = ()


def assemble(
    output: Path,
    manifest: BundleManifest,
    write_files: Callable[[Path], None],
    golden_texts: Sequence[str] = GOLDEN_TEXTS,
    check_golden: Callable[[Golden], None] | None = None,
    reference: ReferenceVectors | None = None,
) -> ModelBundle:
    """Writes a bundle under a temporary name, checks that it loads, and renames it.

    Args:
        output: the folder to create; it must not exist, or be empty.
        manifest: everything except ``files`` and ``versions``.
        write_files: writes ``saved_model/``, ``tokenizer/`` and ``LICENSE`` into the folder it is given.
        golden_texts: the texts that golden vectors are recorded for.
        check_golden: raises if the golden vectors differ from those of the source.
        reference: another system's vectors for the first golden texts, to check at every load.

    Raises:
        SourceError: ``output`` already exists, or ``check_golden`` found a difference.
    """
    check_output(output)
    with staging(output.parent) as work:
        folder = work / "bundle"
        folder.mkdir()
        write_files(folder)
        # TensorFlow writes a random number here, which would give equal models different digests.
        (folder / SAVED_MODEL_DIR / "fingerprint.pb").unlink(missing_ok=True)
        golden = record_golden(folder, manifest, golden_texts)
        if check_golden is not None:
            check_golden(golden)
        if reference is not None:
            golden.with_reference(reference).write(folder)
        versions = {name: version(name) for name in ("tensorflow", "tokenizers", "numpy")}
        manifest = manifest.model_copy(update={"versions": versions, "files": list_files(folder)})
        (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
        move_bundle(folder, output)
    return ModelBundle(output, manifest, bundle_digest(manifest), manifest.allowed_ops)


def move_bundle(folder: Path, output: Path) -> None:
    """Renames a whole bundle to its place, which is not there or empty."""
    if output.exists():
        output.rmdir()
    folder.replace(output)


def check_output(output: Path) -> None:
    """Rejects an output folder that is already in use, before any work is done.

    Raises:
        SourceError: ``output`` exists and is not an empty folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SourceError(f"{output} already exists. Name a new folder, or remove that one first.")


def record_golden(bundle_dir: Path, manifest: BundleManifest, texts: Sequence[str]) -> Golden:
    """Runs the exported float32 and integer signatures, freshly loaded and unfrozen; stores their outputs."""
    from model_bundle.runtime.saved_model import load_saved_model
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    taken = as_taken(manifest, texts)
    prepared = text_input(bundle_dir, manifest, manifest.max_tokens, prompt="").prepare(taken)
    numbers = np.arange(len(texts))
    inputs = prepared.batch(numbers) | example_numbers(manifest.inputs, numbers)
    # Whoever builds has allowed what the manifest records.
    loaded = load_saved_model(bundle_dir, manifest, manifest.allowed_ops)
    arrays = signature_inputs(inputs, manifest.inputs, manifest.tokenizer.pad_id)
    fed = {name: tf.constant(array, dtype=manifest.inputs[name].dtype) for name, array in arrays.items()}

    def run(signature: str) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in loaded.signatures[signature](**fed).items()}

    outputs = run(manifest.signature)
    named = {p: manifest.signature_of(p) for p in Precision if p.is_integer}
    integer = {p: run(name) for p, name in named.items() if name not in (None, manifest.signature)}
    mask = inputs.get("mask")
    if mask is None:
        longest = max((a.shape[1] for a in outputs.values() if a.ndim == 3), default=1)
        lengths = inputs.get("lengths", outputs.get("sequence_len", np.full(len(texts), longest)))
        mask = (np.arange(longest) < np.asarray(lengths)[:, np.newaxis]).astype(np.int32)
    kept = {name: outputs[name] for name, spec in manifest.outputs.items() if spec.kind != "length"}
    integer |= {Precision.INT8: kept} if manifest.is_int8_only else {}
    golden = Golden(tuple(taken), inputs, kept, mask, integer=integer)
    golden.write(bundle_dir)
    return golden


def save_module(module: Any, directory: Path, signatures: dict[str, Any]) -> None:
    """Exports a ``tf.Module`` with named signatures as a SavedModel."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(directory), signatures=signatures, options=options)
    stabilize(directory / "saved_model.pb")


def needed_parts(loaded: Any, signature: Any) -> list[Any]:
    """Returns the objects to save with a function, without a Keras model's optimizer and metrics.

    Args:
        loaded: the result of ``tf.saved_model.load``.
        signature: a concrete function traced from one of its functions.

    Returns:
        The variables it reads; all of ``loaded`` if it needs more than variables (tables, files), or if it
        is a TensorFlow 1 graph, whose parts cannot be separated.
    """
    import tensorflow as tf

    needed = [id(capture) for capture in signature.captured_inputs]
    variables = {
        id(part.handle): part
        for part in tf.train.TrackableView(loaded).descendants()
        if isinstance(part, tf.Variable)
    }
    # In the order of the graph, so that equal models have equal bytes.
    resources = {id(capture) for capture in signature.captured_inputs if capture.dtype == tf.resource}
    if resources - variables.keys() or len(set(needed)) > len(resources):
        return [loaded]
    return [variables[key] for key in dict.fromkeys(needed)]


class _Runnable(Protocol):
    """A model that maps arrays by role to outputs by name."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


def golden_check(reference: _Runnable) -> Callable[[Golden], None]:
    """Builds the check that the exported model returns what the loaded one returned.

    The check raises ``SourceError`` if it does not. Padding is not compared.
    """

    def check(golden: Golden) -> None:
        expected = reference.run(golden.inputs)
        for name, found in golden.outputs.items():
            rows = _real(found, golden.mask), _real(expected[name], golden.mask)
            difference = largest_difference({name: rows[0]}, {name: rows[1]})
            if difference > DIFFERENT:
                raise SourceError(
                    f"Output {name} of the saved model differs from the source's by {difference:.1g} of its "
                    "size; expected no difference. TensorFlow cannot save this model; nothing was built."
                )

    return check


def _real(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Removes padded positions from token states."""
    return array[:, : mask.shape[1]][mask > 0] if array.ndim == 3 else array

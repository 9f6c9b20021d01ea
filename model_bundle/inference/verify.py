"""Verifies a model bundle, from its bytes to its vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.machine import has_fast_bfloat16
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.specs import InputSpec, OutputSpec, Precision
from model_bundle.errors import BundleFormatError, GoldenMismatchError
from model_bundle.inference.precision import fast_precisions
from model_bundle.runtime.golden import Golden
from model_bundle.runtime.request import EncodeRequest
from model_bundle.text import text_input

_OUTPUT_RANKS = {"token": (3,), "text": (2,), "class": (2, 3), "length": (1,)}


def verify(place: str | Path) -> Iterator[str]:
    """Verifies a bundle step by step and yields a line for each step that passed.

    Files and digests; the graph's operations; signatures of a fresh load against the manifest; tokens of the
    golden texts; golden vectors of every output in float32, of the default one as jobs use it, and of that
    one in bfloat16 and int8 where the bundle has it and the processor is fast at it, and in int7 where it has
    that.

    Raises:
        ModelBundleError: a step failed; later ones are not run.
    """
    bundle = ModelBundle.open(place)
    yield from describe_opened(bundle)
    yield from check_loaded(bundle)


def describe_opened(bundle: ModelBundle) -> Iterator[str]:
    """Yields what is known of a bundle before anything of it is loaded."""
    size = sum(file.size for file in bundle.manifest.files)
    yield f"files: {len(bundle.manifest.files)} as listed, {size / 1e6:.1f} MB, sha256:{bundle.digest}"
    allowed = ", ".join(bundle.allowed_ops)
    yield f"graph: may use {allowed}, as you allowed" if allowed else "graph: stays within the model"


def check_loaded(bundle: ModelBundle) -> Iterator[str]:
    """Loads a bundle and yields a line for each check that passed. See ``verify``."""
    names = check_signatures(bundle)
    yield f"signatures: {', '.join(names)} match the manifest"
    golden = Golden.read(bundle)
    check_tokens(bundle, golden)
    yield f"tokens: {len(golden.texts)} golden texts give the recorded input"
    yield from _check_vectors(bundle, golden)


def check_signatures(bundle: ModelBundle) -> tuple[str, ...]:
    """Loads the SavedModel and compares its signatures with the manifest; returns their names.

    Raises:
        BundleFormatError: lists every difference.
    """
    from model_bundle.runtime.saved_model import load_saved_model
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    directory = bundle.path / SAVED_MODEL_DIR
    try:
        signatures = load_saved_model(bundle.path, bundle.manifest, bundle.allowed_ops).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise BundleFormatError(f"{directory} does not load as a SavedModel: {error}") from error
    manifest = bundle.manifest
    names = tuple(filter(None, map(manifest.signature_of, Precision)))
    faults = [fault for name in names for fault in _signature_faults(signatures, name, manifest)]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise BundleFormatError(f"{directory} does not match its manifest:\n{lines}\nRebuild the bundle.")
    return names


def check_tokens(bundle: ModelBundle, golden: Golden) -> None:
    """Prepares the golden texts again and compares the result with the recorded input.

    Raises:
        GoldenMismatchError: this machine's tokenizer produces something else.
    """
    manifest = bundle.manifest
    prepared = text_input(bundle.path, manifest, manifest.max_tokens, prompt="").prepare(golden.texts)
    found = prepared.batch(np.arange(len(golden.texts)))
    for role, array in found.items():
        if not np.array_equal(array.astype(golden.inputs[role].dtype), golden.inputs[role]):
            raise GoldenMismatchError(
                f"The golden texts give different {role} than when the bundle was built with tokenizers "
                f"{manifest.versions.get('tokenizers', 'unknown')}. Install that version, or rebuild it."
            )


def _check_vectors(bundle: ModelBundle, golden: Golden) -> Iterator[str]:
    from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime

    first = Precision.INT8 if bundle.manifest.is_int8_only else Precision.FLOAT32
    usual = _usual(bundle, first)
    raw = _raw(tuple(golden.outputs), usual.max_tokens, first)
    TensorFlowRuntime(bundle, raw)
    yield f"{first}: {len(raw.outputs)} outputs give their golden vectors"
    runtime = TensorFlowRuntime(bundle, usual)
    reason = runtime.unfrozen_reason
    where = "on constants" if reason is None else f"on variables ({reason})"
    used = ", ".join(usual.outputs)
    yield f"{first}: {used} as jobs use it, {where}, ready in {runtime.ready_seconds:.1f} s"
    if bundle.manifest.bfloat16_signature is None:
        yield "bfloat16: not offered by this bundle"
    elif not has_fast_bfloat16():
        yield "bfloat16: not checked, this processor is slow at it"
    else:
        TensorFlowRuntime(bundle, _usual(bundle, Precision.BFLOAT16))
        yield f"bfloat16: {used} within its limits"
    for precision in (p for p in Precision if p.is_integer and bundle.manifest.signature_of(p) is not None):
        if precision is first:
            continue
        # int7 runs everywhere.
        if precision is not Precision.INT7 and precision not in fast_precisions():
            yield f"{precision}: not checked, this processor has no instructions for it"
            continue
        TensorFlowRuntime(bundle, _usual(bundle, precision))
        yield f"{precision}: {used} as when it was quantized; sums of products are exact here"


def _usual(bundle: ModelBundle, precision: Precision) -> EncodeRequest:
    """Returns what jobs request: vectors, or the scores of a classifier."""
    manifest = bundle.manifest
    if manifest.task == "embed":
        return EncodeRequest.resolve(bundle, precision=precision)
    return _raw((manifest.default_output,), manifest.max_tokens, precision)


def _raw(outputs: tuple[str, ...], max_tokens: int | None, precision: Precision) -> EncodeRequest:
    return EncodeRequest(outputs, None, False, max_tokens, "", precision)


def _signature_faults(signatures: Any, name: str, manifest: BundleManifest) -> Iterator[str]:
    if name not in signatures:
        yield f"signature {name} is missing; there are {', '.join(signatures) or 'none'}"
        return
    given = signatures[name].structured_input_signature[1]
    made = signatures[name].structured_outputs
    for key in sorted(given.keys() ^ manifest.inputs.keys()):
        yield f"{name}: input {key} is {'not listed' if key in given else 'missing'}"
    for key in sorted(manifest.outputs.keys() - made.keys()):
        yield f"{name}: output {key} is missing"
    for key in sorted(given.keys() & manifest.inputs.keys()):
        yield from _input_faults(f"{name}: input {key}", given[key], manifest.inputs[key])
    for key in sorted(made.keys() & manifest.outputs.keys()):
        yield from _output_faults(f"{name}: output {key}", made[key], manifest.outputs[key])


def _input_faults(what: str, found: Any, spec: InputSpec) -> Iterator[str]:
    if found.dtype.name != spec.dtype:
        yield f"{what} is {found.dtype.name}, listed {spec.dtype}"
    if found.shape.rank not in (None, spec.num_axes):
        yield f"{what} has {found.shape.rank} axes, listed {spec.num_axes}"


def _output_faults(what: str, found: Any, spec: OutputSpec) -> Iterator[str]:
    if found.dtype.name != spec.dtype:
        yield f"{what} is {found.dtype.name}, listed {spec.dtype}"
    if found.shape.rank is None:
        return
    if found.shape.rank not in _OUTPUT_RANKS[spec.kind]:
        yield f"{what} has {found.shape.rank} axes, which does not fit the kind {spec.kind}"
    elif spec.kind != "length" and found.shape[-1] not in (None, spec.dim):
        yield f"{what} has dimension {found.shape[-1]}, listed {spec.dim}"

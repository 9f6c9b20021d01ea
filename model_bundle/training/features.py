"""Computes the vectors that a head is trained on, once, with the bundle's runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import SettingsError
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from model_bundle.training.examples import Examples

# Fixed, not measured: batching affects the last digits of vectors, and trainings must be reproducible.
_BATCH_TOKENS = 4096
_TEXTS_AT_ONCE = 1024
Notify = Callable[[str], None]


@dataclass(frozen=True)
class VectorPlan:
    """How vectors are computed: ``request`` as for a job, with several outputs if layers are mixed."""

    bundle: ModelBundle
    request: EncodeRequest

    @property
    def dim(self) -> int:
        """The dimension of a vector: that of the widest layer, since ELMo's word vectors are repeated."""
        return max(self.bundle.spec(name).dim or 0 for name in self.request.outputs)


def plan_vectors(bundle: ModelBundle, *, mix: bool, max_tokens: int | None) -> VectorPlan:
    """Chooses the vectors to train on: the bundle's own, or each of its layers.

    Raises:
        SettingsError: the bundle is a classifier, has numeric inputs, or has no layers to mix.
    """
    manifest = bundle.manifest
    if manifest.task != "embed":
        raise SettingsError(f"{manifest.name} is already a classifier; name a bundle that outputs vectors.")
    if any(spec.role == "numeric" for spec in manifest.inputs.values()):
        raise SettingsError(f"{manifest.name} has numeric inputs; a head can only be trained on texts.")
    if not mix:
        return VectorPlan(bundle, EncodeRequest.resolve(bundle, max_tokens=max_tokens))
    layers = tuple(name for name in bundle.token_layers if name != "elmo")
    if len(layers) < 2:
        raise SettingsError(f"--mix: {manifest.name} has no layers to mix.")
    request = EncodeRequest.resolve(
        bundle, layers=layers, pooling=Pooling.MEAN, normalize=False, max_tokens=max_tokens
    )
    return VectorPlan(bundle, request)


def compute_vectors(plan: VectorPlan, parts: dict[str, Examples], notify: Notify) -> dict[str, np.ndarray]:
    """Returns float32[layers, rows, dim] for each part; one layer unless layers are mixed.

    Raises:
        SettingsError: the model fails on a row or returns no finite vector; the message names the row.
    """
    runtime = TensorFlowRuntime(plan.bundle, plan.request)
    encoder = TextEncoder(plan.bundle, runtime, _BATCH_TOKENS)
    return {name: _vectors(plan, encoder, part, name, notify) for name, part in parts.items()}


def _vectors(
    plan: VectorPlan, encoder: TextEncoder, examples: Examples, what: str, notify: Notify
) -> np.ndarray:
    found = np.zeros((len(plan.request.outputs), len(examples), plan.dim), np.float32)
    for start in range(0, len(examples), _TEXTS_AT_ONCE):
        texts = examples.texts[start : start + _TEXTS_AT_ONCE]
        encoded = encoder.encode_each(texts)
        if encoded.failures:
            first = encoded.failures[0]
            raise SettingsError(
                f"{examples.path}, row {examples.rows[start + first.text_index]}: the model has no "
                f"vector for its text ({first.message.rstrip('.')}), nor for "
                f"{len(encoded.failures) - 1} others. Remove the rows, or train on another bundle."
            )
        for place, name in enumerate(plan.request.outputs):
            vectors = encoded.vectors[name]
            repeats = plan.dim // vectors.shape[1]
            found[place, start : start + len(texts)] = np.tile(vectors, (1, repeats))
        notify(f"vectors of {what} rows: {start + len(texts)} of {len(examples)}")
    return found

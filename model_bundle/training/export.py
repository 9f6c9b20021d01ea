"""Exports a trained head on a bundle's graph as a new bundle that classifies."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, needed_parts, save_module
from model_bundle.builders.deterministic import stabilize_loaded
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.specs import InputSpec, OutputSpec, SourceSpec
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.runtime.saved_model import load_saved_model
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from model_bundle.training.features import VectorPlan
from model_bundle.training.head import Head

_NUMBERS = "numbers"
_LOGITS = "logits"
FLOAT32, BFLOAT16 = "serving_default", "serving_bfloat16"


@dataclass(frozen=True)
class Classifier:
    """The parts of the new bundle. ``weights``: those of a fine-tuned encoder, None if it was frozen."""

    plan: VectorPlan
    head: Head
    labels: tuple[str, ...]
    numeric_columns: tuple[str, ...]
    weights: list[np.ndarray] | None


def write_classifier(
    trained: Classifier,
    name: str,
    digests: Mapping[str, str],
    output: Path,
    write_report: Callable[[Path], None],
) -> ModelBundle:
    """Assembles the bundle.

    Args:
        trained: the model.
        name: the bundle's name.
        digests: sha256 of the training files, by name.
        output: the folder to create.
        write_report: writes further files into the given folder.
    """
    base = trained.plan.bundle

    def write_files(staging: Path) -> None:
        for file in (LICENCE_NAME, TOKENIZER_FILE):
            if (base.path / file).is_file():
                (staging / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(base.path / file, staging / file)
        _export(trained, staging / SAVED_MODEL_DIR)
        write_report(staging)

    return assemble(output, _manifest(trained, name, digests), write_files)


def _manifest(trained: Classifier, name: str, digests: Mapping[str, str]) -> BundleManifest:
    base = trained.plan.bundle.manifest
    request = trained.plan.request
    inputs = dict(base.inputs)
    if trained.numeric_columns:
        inputs[_NUMBERS] = InputSpec(role="numeric", dtype="float32", columns=trained.numeric_columns)
    files = {f"base/{base.name}/bundle.json": trained.plan.bundle.digest, **digests}
    source = SourceSpec(
        kind=f"trained on {base.source.kind}",
        location=base.source.location,
        revision=base.source.revision,
        files={**base.source.files, **files},
    )
    changes: dict[str, Any] = {
        "name": name,
        "task": "classify",
        "signature": FLOAT32,
        "bfloat16_signature": BFLOAT16 if base.bfloat16_signature else None,
        "int8": None,  # its quality was measured without the head
        "inputs": inputs,
        "outputs": {**base.outputs, _LOGITS: OutputSpec(kind="class", dim=len(trained.labels))},
        "default_output": _LOGITS,
        "max_tokens": request.max_tokens,
        "labels": trained.labels,
        "scores": "softmax",
        "source": source,
        "versions": {},
        "files": (),
    }
    return BundleManifest(**{**dict(base), **changes})


def _export(trained: Classifier, directory: Path) -> None:
    tf = import_tensorflow()
    base = trained.plan.bundle
    loaded = load_saved_model(base.path, base.manifest, base.allowed_ops)
    if trained.weights is not None:
        variables = sorted(
            loaded.signatures[base.manifest.signature].variables, key=lambda v: (v.name, str(v.shape))
        )
        for variable, value in zip(variables, trained.weights, strict=True):
            variable.assign(value)
    head = _HeadVariables(tf, trained.head)
    names = {FLOAT32: base.manifest.signature}
    if base.manifest.bfloat16_signature:
        names[BFLOAT16] = base.manifest.bfloat16_signature
    signatures = {new: _signature(tf, trained, loaded.signatures[old], head) for new, old in names.items()}
    module = tf.Module()
    module.head = head.variables
    module.parts = [needed_parts(loaded, signature) for signature in signatures.values()]
    save_module(module, directory, signatures)
    stabilize_loaded(directory / "saved_model.pb")


class _HeadVariables:
    """The matrices of a head as variables."""

    def __init__(self, tf: Any, head: Head) -> None:
        self.factors = [tf.Variable(head.factors, name="head/factors")] if len(head.factors) else []
        self.dense = [
            (tf.Variable(kernel, name=f"head/kernel_{i}"), tf.Variable(bias, name=f"head/bias_{i}"))
            for i, (kernel, bias) in enumerate(head.dense)
        ]

    @property
    def variables(self) -> list[Any]:
        """All variables of the head."""
        return [*self.factors, *(variable for pair in self.dense for variable in pair)]


def _signature(tf: Any, trained: Classifier, inner: Any, head: _HeadVariables) -> Any:
    base = trained.plan.bundle.manifest
    specs = {}
    for name, spec in base.inputs.items():
        shape = [None] * spec.num_axes if spec.length is None else [None, spec.length]
        specs[name] = tf.TensorSpec(shape, spec.dtype, name=name)
    if trained.numeric_columns:
        specs[_NUMBERS] = tf.TensorSpec([None, len(trained.numeric_columns)], tf.float32, name=_NUMBERS)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def serve(**fed: Any) -> dict[str, Any]:
        numbers = [fed.pop(_NUMBERS)] if _NUMBERS in fed else []
        outputs = dict(inner(**fed))
        state = tf.concat([_vector(tf, trained, fed, outputs, head), *numbers], axis=1)
        for index, (kernel, bias) in enumerate(head.dense):
            # The head is small: always computed in float32.
            state = tf.nn.bias_add(tf.matmul(state if index == 0 else tf.nn.relu(state), kernel), bias)
        return {**outputs, _LOGITS: state}

    return serve.get_concrete_function(**specs)


def _vector(
    tf: Any, trained: Classifier, fed: Mapping[str, Any], outputs: Mapping[str, Any], head: _HeadVariables
) -> Any:
    """Returns float32[texts, dim]: the vectors that the head was trained on."""
    plan = trained.plan
    lengths = _lengths(tf, plan, fed, outputs)
    vectors = []
    for name in plan.request.outputs:
        output = tf.cast(outputs[name], tf.float32)
        if plan.request.pooling is not None:
            output = pool_in_graph(output, lengths, plan.request.pooling)
        output = normalize_in_graph(output) if plan.request.normalize else output
        vectors.append(tf.tile(output, [1, plan.dim // output.shape[-1]]))
    if not head.factors:
        return vectors[0]
    factors = tf.unstack(head.factors[0], num=len(vectors))
    return tf.add_n([factor * vector for factor, vector in zip(factors, vectors, strict=True)])


def _lengths(tf: Any, plan: VectorPlan, fed: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    by_role = {plan.bundle.manifest.inputs[name].role: tensor for name, tensor in fed.items()}
    if "lengths" in by_role:
        return tf.cast(by_role["lengths"], tf.int32)
    if "mask" in by_role:
        return tf.reduce_sum(tf.cast(by_role["mask"], tf.int32), axis=1)
    return outputs.get("sequence_len")

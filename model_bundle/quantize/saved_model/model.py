"""The SavedModel of another maker as a model to quantize."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import needed_parts, save_module
from model_bundle.builders.deterministic import stabilize_loaded
from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Int8Spec, Precision
from model_bundle.errors import SettingsError
from model_bundle.quantize.choose import choose_product
from model_bundle.quantize.gain import measure_gain
from model_bundle.quantize.observed import KEPT_ROWS, Observed, batches_of
from model_bundle.quantize.saved_model.graph import ModelGraph
from model_bundle.quantize.saved_model.products import MIN_SIDE, Product, find_products
from model_bundle.quantize.search import Found
from model_bundle.quantize.trial import Plan, Run
from model_bundle.runtime.freeze.freeze import CannotFreezeError, freeze
from model_bundle.runtime.inputs import signature_inputs
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.saved_model import load_saved_model
from model_bundle.runtime.tensorflow_runtime import real_lengths, tensor_specs
from model_bundle.text.prepared import PreparedTexts

# Products with less than this share of all multiplications stay float: a pooler, a head.
_MIN_SHARE = 0.005


class QuantizableSavedModel:
    """The float signature of a bundle, whose products with constant weights can be replaced.

    See ``Quantizable``. TensorFlow rewrites such graphs to bfloat16 when they run, so there is no graph to
    combine with integers.

    Args:
        bundle: of any SavedModel that takes text.
        only_int8: for a bundle without the float weights of what is computed in int8.

    Raises:
        SettingsError: it takes numbers, was quantized before, or has no products that int8 could speed up.
    """

    has_bfloat16 = False
    has_mixed = False

    def __init__(self, bundle: ModelBundle, *, only_int8: bool) -> None:
        manifest = self._manifest = bundle.manifest
        _check(bundle)
        self._loaded = load_saved_model(bundle.path, manifest, bundle.allowed_ops)
        self._specs = tensor_specs(manifest.inputs)
        self._signature = self._loaded.signatures[manifest.signature]
        self._graph = ModelGraph(self._trace(lambda **inputs: dict(self._signature(**inputs))))
        self._products = find_products(self._graph)
        if not self._products:
            raise SettingsError(
                f"{manifest.name} has no product with a constant matrix of at least {MIN_SIDE} x "
                f"{MIN_SIDE} outside of loops, which is what int8 speeds up. Use --precision float32."
            )
        if only_int8 and needed_parts(self._loaded, self._signature) == [self._loaded]:
            raise SettingsError(
                f"--only_int8: {manifest.name} has tables or files that cannot be separated from its float "
                "weights. Leave the option out."
            )
        resolve = EncodeRequest.resolve_classes if manifest.task == "classify" else EncodeRequest.resolve
        self._request = resolve(bundle)

    def observe(self, prepared: PreparedTexts) -> dict[str, Observed]:
        """See ``Quantizable.observe``; padding is left out where the model is told of it."""
        import tensorflow as tf

        batches = list(batches_of(prepared))
        kept = max(KEPT_ROWS // len(batches), 1)
        entering = list(dict.fromkeys(product.entering for product in self._products.values()))

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
        def record(**inputs: Any) -> list[Any]:
            replay, real = self._graph.replay(inputs), self._is_real(inputs)
            return [
                _sample(tf.reshape(replay.tensor(root), [-1, width]), real, kept) for root, width in entering
            ]

        concrete = record.get_concrete_function(**self._specs)
        found = {each: Observed(each[1]) for each in entering}
        for batch in batches:
            samples = concrete(**self._fed(prepared.batch(batch)))
            for each, sample in zip(entering, samples, strict=True):
                largest, rows, number = (part.numpy() for part in sample)
                found[each].add_sample(largest, rows, int(number))
        return {name: found[product.entering] for name, product in self._products.items()}

    def plan(self, observed: Mapping[str, Observed], largest_weight: int) -> dict[str, Int8Product]:
        """See ``Quantizable.plan``; products of one input are planned together, to be rounded once.

        A product whose input was 0 in all texts has no range, and stays float.
        """
        cost = {name: observed[name].num_rows * p.kernel.size for name, p in self._products.items()}
        worth = {
            name
            for name in cost
            if cost[name] >= _MIN_SHARE * sum(cost.values()) and observed[name].largest.any()
        }
        shared: dict[tuple[str, int], list[Product]] = {}
        for name in self._products:
            if name in worth:
                shared.setdefault(self._products[name].entering, []).append(self._products[name])
        plan = {}
        for products in shared.values():
            first = products[0]
            inner = first.inner if first.inner in worth else None
            whole = np.concatenate([product.kernel for product in products], axis=1)
            joint = choose_product(whole, observed[first.name], largest_weight, inner)
            ends = np.cumsum([product.kernel.shape[1] for product in products])
            for product, kernel in zip(products, np.split(joint.kernel, ends[:-1], axis=1), strict=True):
                plan[product.name] = dataclasses.replace(joint, kernel=kernel)
        return {name: plan[name] for name in self._products if name in plan}

    def run(self, precision: Precision, plan: Plan) -> Run:
        """See ``Quantizable.run``."""
        call = self._finished(self._call(precision, plan))
        concrete = self._trace(call)

        def run(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
            (output,) = concrete(**self._fed(arrays)).values()
            found: np.ndarray = output.numpy()
            return found

        return run

    def check_gain(self, precision: Precision, plan: Plan, prepared: PreparedTexts, min_gain: float) -> str:
        """See ``Quantizable.check_gain``."""
        batches = list(batches_of(prepared))
        fed = self._fed(prepared.batch(batches[len(batches) // 2]))
        calls = [self._finished(self._call(each, plan)) for each in (Precision.FLOAT32, precision)]
        return measure_gain(
            self._manifest.name, precision, [self._as_run(call) for call in calls], fed, min_gain
        )

    def _as_run(self, function: Any) -> Any:
        """Returns the function as jobs run it: on constants, where these compute the same."""
        concrete = self._trace(function)
        if self._manifest.freeze:
            with contextlib.suppress(CannotFreezeError):
                return freeze(concrete, optimize_first=True).call
        return lambda fed: concrete(**fed)

    def export(self, found: Mapping[Precision, Found], spec: Int8Spec, directory: Path) -> None:
        """See ``Quantizable.export``."""
        import tensorflow as tf

        module = tf.Module()
        signatures = {} if spec.only else dict(self._loaded.signatures)
        module.integer = []
        for precision, each in found.items():
            integer = self._integer(precision, each.plan)
            module.integer.append(integer)
            signatures[str(spec.signature_of(precision))] = self._trace(_with_keywords(integer))
        module.sources = [self._loaded]
        if spec.only:
            (signature,) = signatures.values()
            parts = needed_parts(module, signature)
            module = tf.Module()
            module.parts = parts
        save_module(module, directory, signatures)
        stabilize_loaded(directory / "saved_model.pb")

    def _call(self, precision: Precision, plan: Plan) -> Any:
        if not precision.is_integer:
            return lambda **inputs: dict(self._signature(**inputs))
        return _with_keywords(self._integer(precision, plan))

    def _integer(self, precision: Precision, plan: Plan) -> Any:
        from model_bundle.quantize.saved_model.rewrite import IntegerGraph

        return IntegerGraph(self._graph, self._products, plan, narrow=precision is Precision.INT7)

    def _finished(self, call: Any) -> Any:
        """Wraps a function of the model to return its vectors at length 1, or its classes."""
        import tensorflow as tf

        def finished(**inputs: Any) -> dict[str, Any]:
            outputs = call(**inputs)
            (name,) = self._request.outputs
            found = tf.cast(outputs[name], tf.float32)
            if self._manifest.task == "classify":
                return {name: found}
            if self._request.pooling is not None:
                lengths = real_lengths(self._manifest.inputs, inputs, outputs)
                found = pool_in_graph(found, lengths, self._request.pooling)
            return {name: normalize_in_graph(found)}

        return finished

    def _trace(self, function: Any) -> Any:
        import tensorflow as tf

        return tf.function(function, autograph=False).get_concrete_function(**self._specs)

    def _fed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        import tensorflow as tf

        specs = self._manifest.inputs
        fed = signature_inputs(arrays, specs, self._manifest.tokenizer.pad_id)
        return {name: tf.constant(array, dtype=specs[name].dtype) for name, array in fed.items()}

    def _is_real(self, inputs: Mapping[str, Any]) -> Any:
        """Returns bool[cells]: which cells of a batch are tokens; None if the model is not told."""
        import tensorflow as tf

        masks = [inputs[name] for name, spec in self._manifest.inputs.items() if spec.role == "mask"]
        return tf.reshape(masks[0], [-1]) > 0 if masks else None


def _with_keywords(integer: Any) -> Any:
    return lambda **inputs: integer.call(inputs)


def _check(bundle: ModelBundle) -> None:
    manifest = bundle.manifest
    numbers = [name for name, spec in manifest.inputs.items() if spec.role == "numeric"]
    if numbers:
        raise SettingsError(
            f"{manifest.name} takes numbers ({', '.join(numbers)}) beside the text: texts alone cannot "
            "choose scales for it. Use --precision float32."
        )
    if manifest.int8 is not None:
        raise SettingsError(
            f"{manifest.name} has been quantized before. Quantize the bundle that it was made from."
        )


def _sample(flat: Any, real: Any, kept: int) -> tuple[Any, Any, Any]:
    """Returns the largest value of each channel, some rows, and how many there were, without padding."""
    import tensorflow as tf

    if real is not None:
        is_of_tokens = tf.equal(tf.shape(flat)[0], tf.size(real))
        flat = tf.cond(is_of_tokens, lambda: tf.boolean_mask(flat, real), lambda: flat)
    number = tf.shape(flat)[0]
    rows = flat[:: tf.maximum(number // kept, 1)][:kept]
    # An empty batch has no largest value but that of its type.
    return tf.reduce_max(tf.pad(tf.abs(flat), [[0, 1], [0, 0]]), axis=0), rows, number

"""ELMo as a model to quantize: the products of its LSTMs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import save_module
from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Int8Spec, Pooling, Precision
from model_bundle.errors import SettingsError
from model_bundle.quantize.choose import choose_product
from model_bundle.quantize.elmo.read_elmo import read_elmo
from model_bundle.quantize.gain import measure_gain
from model_bundle.quantize.observed import Observed, batches_of
from model_bundle.quantize.search import Found
from model_bundle.quantize.trial import Plan, Run
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.text.prepared import PreparedTexts


class QuantizableElmo:
    """The model of a bundle, built again from its weights. See ``Quantizable``.

    Characters stay float: a word is computed once and then kept. Quality is that of all layers together,
    since the default output may be one without LSTMs.

    Args:
        bundle: of ``build elmo``.
        only_int8: not offered.

    Raises:
        SettingsError: see ``read_elmo``.
    """

    has_bfloat16 = True
    has_mixed = False

    def __init__(self, bundle: ModelBundle, *, only_int8: bool) -> None:
        if only_int8:
            raise SettingsError(
                f"--only_int8: {bundle.manifest.name} is an ELMo, whose characters stay float. Leave it out."
            )
        self._manifest = bundle.manifest
        self._elmo = read_elmo(bundle)

    def observe(self, prepared: PreparedTexts) -> dict[str, Observed]:
        """See ``Quantizable.observe``."""
        from model_bundle.quantize.elmo.calibrate import observe

        return observe(self._elmo, prepared)

    def plan(self, observed: Mapping[str, Observed], largest_weight: int) -> dict[str, Int8Product]:
        """See ``Quantizable.plan``."""
        from model_bundle.quantize.elmo.calibrate import kernel_of

        return {
            name: choose_product(kernel_of(self._elmo, name), inputs, largest_weight)
            for name, inputs in observed.items()
        }

    def run(self, precision: Precision, plan: Plan) -> Run:
        """See ``Quantizable.run``."""
        import tensorflow as tf

        model = self._in(precision, plan)
        dtype = tf.bfloat16 if precision is Precision.BFLOAT16 else tf.float32
        names = [n for n, spec in self._manifest.outputs.items() if spec.kind == "token" and n != "word_emb"]
        specs = [tf.TensorSpec([None, None], tf.string), tf.TensorSpec([None], tf.int32)]

        @tf.function(autograph=False, input_signature=specs)  # type: ignore[untyped-decorator]
        def run(tokens: Any, lengths: Any) -> Any:
            outputs = model.encode(tokens, lengths, dtype)[0]
            pooled = [pool_in_graph(outputs[name], lengths, Pooling.MEAN) for name in names]
            return normalize_in_graph(tf.concat([normalize_in_graph(each) for each in pooled], axis=-1))

        def call(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
            found: np.ndarray = run(
                tf.constant(arrays["words"]), tf.constant(arrays["lengths"], tf.int32)
            ).numpy()
            return found

        return call

    def check_gain(self, precision: Precision, plan: Plan, prepared: PreparedTexts, min_gain: float) -> str:
        """See ``Quantizable.check_gain``."""
        batches = list(batches_of(prepared))
        arrays = prepared.batch(batches[len(batches) // 2])
        runs = [self.run(Precision.FLOAT32, {}), self.run(precision, plan)]
        return measure_gain(self._manifest.name, precision, runs, arrays, min_gain)

    def export(self, found: Mapping[Precision, Found], spec: Int8Spec, directory: Path) -> None:
        """See ``Quantizable.export``."""
        import tensorflow as tf

        from model_bundle.builders.graphs.elmo_signatures import signatures, tokens_signature

        module = tf.Module()
        module.elmo = self._elmo
        traced = signatures(self._elmo)
        for precision, each in found.items():
            integer = self._in(precision, each.plan)
            setattr(module, precision, integer)
            traced[str(spec.signature_of(precision))] = tokens_signature(integer, tf.float32)
        save_module(module, directory, traced)

    def _in(self, precision: Precision, plan: Plan) -> Any:
        if not precision.is_integer:
            return self._elmo
        from model_bundle.builders.graphs.elmo_int8 import Int8Elmo

        return Int8Elmo(self._elmo, plan, narrow=precision is Precision.INT7)

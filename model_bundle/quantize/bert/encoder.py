"""A BERT encoder of this package as a model to quantize."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import save_module
from model_bundle.builders.bert.build import float_signatures, trace
from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Int8Spec, Pooling, Precision
from model_bundle.quantize.bert.read_encoder import quantize_words, read_encoder
from model_bundle.quantize.choose import choose_product
from model_bundle.quantize.observed import Observed
from model_bundle.quantize.search import Found
from model_bundle.quantize.trial import Plan, Run
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.text.prepared import PreparedTexts


class QuantizableBert:
    """The encoder of a bundle, built again from its weights. See ``Quantizable``.

    Args:
        bundle: of this package's own BERT graph.
        only_int8: for a bundle without float weights, whose word embeddings have 8 bits.

    Raises:
        SettingsError: the graph is not an encoder of this package.
    """

    has_bfloat16 = True
    has_mixed = True

    def __init__(self, bundle: ModelBundle, *, only_int8: bool) -> None:
        from model_bundle.builders.graphs.bert import BertEncoder

        self._manifest = bundle.manifest
        self._config, weights, self._sentence = read_encoder(bundle)
        self._encoder = self._base = BertEncoder(self._config, weights, bundle.manifest.name)
        if only_int8:
            self._base = BertEncoder(*quantize_words(self._config, weights), bundle.manifest.name)

    def observe(self, prepared: PreparedTexts) -> dict[str, Observed]:
        """See ``Quantizable.observe``."""
        from model_bundle.quantize.bert.calibrate import RecordingEncoder

        return RecordingEncoder(self._encoder).observe(prepared)

    def plan(self, observed: Mapping[str, Observed], largest_weight: int) -> dict[str, Int8Product]:
        """See ``Quantizable.plan``."""
        plan = {}
        for name, inputs in observed.items():
            if name.startswith("layer_"):
                inner = f"{name.removesuffix('outer')}inner" if name.endswith("/ffn/outer") else None
                plan[name] = choose_product(self._encoder.kernel(name), inputs, largest_weight, inner)
        return plan

    def run(self, precision: Precision, plan: Plan) -> Run:
        """See ``Quantizable.run``."""
        import tensorflow as tf

        encoder = _integer_encoder(self._base, precision, plan) if precision.is_integer else self._encoder
        spec, counts = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

        @tf.function(autograph=False, input_signature=[spec, spec, counts])  # type: ignore[untyped-decorator]
        def run(ids: Any, mask: Any, skipped: Any) -> Any:
            return self._result(encoder, ids, mask, skipped, _float_type(precision))

        def call(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
            skipped = arrays.get("skipped", np.zeros(len(arrays["ids"])))
            fed = (tf.constant(array, tf.int32) for array in (arrays["ids"], arrays["mask"], skipped))
            found: np.ndarray = run(*fed).numpy()
            return found

        return call

    def _result(self, encoder: Any, ids: Any, mask: Any, skipped: Any, dtype: Any) -> Any:
        import tensorflow as tf

        states = encoder.encode(ids, mask, dtype)[-1]
        if self._manifest.task == "classify":
            per_token = self._config.labels_per_token
            return encoder.classify(states if per_token else encoder.pool_first(states, dtype))
        if self._sentence is not None:
            return normalize_in_graph(self._sentence.embed(states, mask, skipped))
        pooling = self._manifest.pooling or Pooling.MEAN
        if pooling is Pooling.POOLER:
            return normalize_in_graph(encoder.pool_first(states, dtype))
        return normalize_in_graph(pool_in_graph(states, tf.reduce_sum(mask, axis=1), pooling))

    def check_gain(self, precision: Precision, plan: Plan, prepared: PreparedTexts, min_gain: float) -> str:
        """Checks nothing: what such encoders gain is known, see ``docs/decisions/int8.md``."""
        del precision, plan, prepared, min_gain
        return ""

    def export(self, found: Mapping[Precision, Found], spec: Int8Spec, directory: Path) -> None:
        """See ``Quantizable.export``."""
        import tensorflow as tf

        module = tf.Module()
        if self._sentence is not None:
            module.sentence = self._sentence
        signatures: dict[str, Any] = {}
        if not spec.only:
            module.encoder = self._base
            signatures = float_signatures(self._base, self._config, self._sentence)
        for precision, each in found.items():
            if precision is Precision.INT8_BFLOAT16:
                integer = module.int8  # the same weights
            else:
                integer = _integer_encoder(self._base, precision, each.plan)
            if spec.only:
                integer.drop_float_weights()
            setattr(module, precision, integer)
            signatures[str(spec.signature_of(precision))] = trace(
                integer, self._config, _float_type(precision), self._sentence
            )
        save_module(module, directory, signatures)


def _float_type(precision: Precision) -> Any:
    """Returns the dtype of a precision's products that are not of integers."""
    import tensorflow as tf

    is_wide = precision not in (Precision.BFLOAT16, Precision.INT8_BFLOAT16)
    return tf.float32 if is_wide else tf.bfloat16


def _integer_encoder(encoder: Any, precision: Precision, plan: Plan) -> Any:
    """Builds the encoder with the integer products of a plan, beside a float one."""
    from model_bundle.builders.graphs.bert_int8 import Int8BertEncoder, NarrowBertEncoder

    kind = NarrowBertEncoder if precision is Precision.INT7 else Int8BertEncoder
    return kind(encoder, plan)

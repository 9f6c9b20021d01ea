"""What a precision costs a classifier: its scores and labels compared with those of float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from model_bundle.builders.bert.int8.calibrate import batches_of
from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import ClassQuality
from model_bundle.inference.scores import DEFAULT_THRESHOLD, class_logits, class_names, scores_of
from model_bundle.text.prepared import PreparedTexts


def scores_run(
    encoder: BertEncoder, manifest: BundleManifest, dtype: Any
) -> Callable[[PreparedTexts], np.ndarray]:
    """Builds a function that returns float32[rows, labels]: a row per text, or per token of all texts."""
    import tensorflow as tf

    per_token = manifest.outputs[manifest.default_output].per_token
    spec = tf.TensorSpec([None, None], tf.int32)

    @tf.function(autograph=False, input_signature=[spec, spec])  # type: ignore[untyped-decorator]
    def run(ids: Any, mask: Any) -> Any:
        states = encoder.encode(ids, mask, dtype)[-1]
        return encoder.classify(states if per_token else encoder.pool_first(states, dtype))

    def judge(prepared: PreparedTexts) -> np.ndarray:
        rows = []
        for batch in batches_of(prepared):
            arrays = prepared.batch(batch)
            found = run(tf.constant(arrays["ids"], tf.int32), tf.constant(arrays["mask"], tf.int32)).numpy()
            rows.append(found[arrays["mask"] > 0] if per_token else found)
        logits = class_logits(np.concatenate(rows), len(class_names(manifest)), manifest.scores)
        return scores_of(logits, manifest.scores)

    return judge


def compare_classes(
    found: np.ndarray, expected: np.ndarray, calibration: tuple[np.ndarray, np.ndarray], *, multi_label: bool
) -> ClassQuality:
    """Measures a precision.

    Args:
        found: float32[rows, labels], scores of the held-out texts.
        expected: the same in float32.
        calibration: both, of the texts that scales were chosen with.
        multi_label: whether each score decides alone.
    """

    def same(one: np.ndarray, other: np.ndarray) -> float:
        if multi_label:
            equal = ((one >= DEFAULT_THRESHOLD) == (other >= DEFAULT_THRESHOLD)).all(axis=1)
        else:
            equal = one.argmax(axis=1) == other.argmax(axis=1)
        return round(float(equal.mean()), 6)

    return ClassQuality(
        num_rows=len(found),
        same_labels=same(found, expected),
        calibration_same_labels=same(*calibration),
        max_difference=round(float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()), 6),
    )

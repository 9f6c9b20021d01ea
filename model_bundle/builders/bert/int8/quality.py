"""What a precision costs: its vectors compared with those of float32. Imports TensorFlow late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from model_bundle.builders.bert.int8.calibrate import batches_of
from model_bundle.builders.graphs.bert import BertEncoder
from model_bundle.bundle.specs import Pooling, PrecisionQuality
from model_bundle.runtime.pooling import normalize_in_graph, pool_in_graph
from model_bundle.text.prepared import PreparedTexts

# All pairs of texts are compared: at most this many texts, 2 million pairs.
MAX_COMPARED = 2000


def vectors_of(
    encoder: BertEncoder, pooling: Pooling, dtype: Any, sentence: Any = None
) -> Callable[[PreparedTexts], np.ndarray]:
    """Builds a function that returns float32[texts, dim]: the vectors of texts at length 1.

    ``sentence`` is the encoder's ``SentenceHead``, which then pools.
    """
    import tensorflow as tf

    spec, counts = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

    @tf.function(autograph=False, input_signature=[spec, spec, counts])  # type: ignore[untyped-decorator]
    def run(ids: Any, mask: Any, skipped: Any) -> Any:
        states = encoder.encode(ids, mask, dtype)[-1]
        if sentence is not None:
            return normalize_in_graph(sentence.embed(states, mask, skipped))
        if pooling is Pooling.POOLER:
            return normalize_in_graph(encoder.pool_first(states, dtype))
        return normalize_in_graph(pool_in_graph(states, tf.reduce_sum(mask, axis=1), pooling))

    def encode(prepared: PreparedTexts) -> np.ndarray:
        found: np.ndarray | None = None
        for batch in batches_of(prepared):
            arrays = prepared.batch(batch)
            skipped = arrays.get("skipped", np.zeros(len(batch)))
            fed = (tf.constant(array, tf.int32) for array in (arrays["ids"], arrays["mask"], skipped))
            part = run(*fed).numpy()
            if found is None:
                found = np.zeros((len(prepared.lengths), part.shape[1]), np.float32)
            found[batch] = part
        assert found is not None
        return found

    return encode


def compare(
    found: np.ndarray, expected: np.ndarray, found_calibration: np.ndarray, calibration: np.ndarray
) -> PrecisionQuality:
    """Measures a precision.

    Args:
        found: float32[texts, dim], vectors of the held-out texts at length 1.
        expected: the same in float32.
        found_calibration: float32[texts, dim], of the texts that scales were chosen with.
        calibration: the same in float32.
    """
    cosines = (found.astype(np.float64) * expected).sum(axis=1)
    return PrecisionQuality(
        num_texts=len(found),
        min_cosine=round(float(np.nan_to_num(cosines, nan=-1.0).min()), 6),
        mean_cosine=round(float(np.nan_to_num(cosines, nan=-1.0).mean()), 6),
        rank_correlation=round(rank_correlation(found, expected), 6),
        calibration_rank_correlation=round(rank_correlation(found_calibration, calibration), 6),
        same_nearest=round(float((nearest(found) == nearest(expected)).mean()), 6),
    )


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Spearman's rank correlation of the similarities of all pairs; 0 where it is undefined."""
    pairs = np.triu_indices(len(one), 1)
    first, second = _ranks((one @ one.T)[pairs]), _ranks((other @ other.T)[pairs])
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.nan_to_num(np.corrcoef(first, second)[0, 1]))


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Returns int[texts]: the position of each text's nearest neighbour, which is not itself."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    places: np.ndarray = similarity.argmax(axis=1)
    return places


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts + 1) / 2)[inverse]
    return ranks

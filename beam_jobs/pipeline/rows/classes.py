"""Labels and scores as Arrow columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from beam_jobs.pipeline.class_settings import ClassSettings
from beam_jobs.pipeline.rows.schema import vector_array, vector_type
from model_bundle.inference.scores import LabelMode, best_first, class_logits, scores_of

_NAMES = pa.list_(pa.field("element", pa.string(), nullable=False))


def class_fields(settings: ClassSettings) -> list[pa.Field]:
    """Lists the columns of labels and scores, as these settings ask for them."""
    kinds: dict[str, pa.DataType] = {}
    if settings.choice is LabelMode.SINGLE:
        kinds["label"] = pa.string()
    if settings.choice is LabelMode.MULTI:
        kinds["labels"] = _NAMES
    if settings.top_k is not None:
        kinds |= {"top_labels": _NAMES, "top_scores": vector_type("float32")}
    elif settings.choice is LabelMode.REGRESSION and len(settings.names) == 1:
        kinds["score"] = pa.float32()
    else:
        kinds["scores"] = vector_type("float32")
    if settings.keep_logits:
        kinds["logits"] = vector_type("float32")
    return [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]


def class_arrays(settings: ClassSettings, output: np.ndarray) -> dict[str, pa.Array]:
    """Builds the columns of ``class_fields``, and some that are not asked for.

    Args:
        settings: see there.
        output: float32[rows, dim], as the model gave it.
    """
    logits = class_logits(output, len(settings.names), settings.function)
    scores = scores_of(logits, settings.function)
    ranks = best_first(logits, len(settings.names))
    names = pa.array(settings.names, pa.string())
    arrays: dict[str, pa.Array] = {
        "label": names.take(pa.array(ranks[:, 0])),
        "scores": vector_array(scores, "float32"),
        "score": pa.array(scores[:, 0]),
        "logits": vector_array(logits, "float32"),
    }
    if settings.threshold is not None:
        arrays["labels"] = _reached(scores, ranks, settings.threshold, names)
    if settings.top_k is not None:
        best = ranks[:, : settings.top_k]
        offsets = pa.array(np.arange(len(best) + 1, dtype=np.int32) * np.int32(settings.top_k))
        chosen = names.take(pa.array(best.reshape(-1)))
        arrays["top_labels"] = pa.ListArray.from_arrays(offsets, chosen, type=_NAMES)
        arrays["top_scores"] = vector_array(np.take_along_axis(scores, best, axis=1), "float32")
    return arrays


def _reached(scores: np.ndarray, ranks: np.ndarray, threshold: float, names: pa.Array) -> pa.ListArray:
    """Lists the labels of each row whose score is high enough, the best first."""
    # In float64: a threshold of 0.3 is not the float32 next to it.
    reached = np.take_along_axis(scores, ranks, axis=1).astype(np.float64) >= threshold
    offsets = np.concatenate([[0], np.cumsum(reached.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(ranks[reached])), type=_NAMES)

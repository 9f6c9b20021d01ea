"""Arrow schemas of a run's files, and the arrays of vectors, classes and dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import DeadLetter
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.class_settings import ClassSettings
from beam_jobs.pipeline.settings import MAX_NUMBERS
from beam_jobs.store.row_columns import FIRST_COLUMNS
from model_bundle.inference.scores import LabelMode, best_first, class_logits, scores_of

_NAMES = pa.list_(pa.field("element", pa.string(), nullable=False))


DEAD_LETTER_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("text_sha256", pa.string()),
        pa.field("num_bytes", pa.int64()),
    ]
)

# Of pairs: tokens that truncation dropped from the first and from the second text.
PAIR_COLUMNS = {"num_lost_tokens": pa.int32(), "num_lost_tokens_pair": pa.int32()}
# Windows of documents whose text changed: which rows are new, gone, or the same at another place.
WINDOW_CHANGES_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),
        pa.field("window_index", pa.int32()),
        pa.field("previous_window_index", pa.int32()),
    ]
)

# Index and character span of a window or word in its document.
WINDOW_COLUMNS = {
    "window_index": pa.int32(),
    "char_start": pa.int32(),
    "char_end": pa.int32(),
}
# The digest of what the model got of a window, if windows end where their content decides.
WINDOW_DIGEST = "window_sha256"
WORD_COLUMNS = {
    "word_index": pa.int32(),
    "word": pa.string(),
    "char_start": pa.int32(),
    "char_end": pa.int32(),
}


def vector_type(vector_dtype: str) -> pa.DataType:
    """Returns ``list<element: float>``, with the child name that the Parquet format prescribes."""
    value = pa.float16() if vector_dtype == "float16" else pa.float32()
    return pa.list_(pa.field("element", value, nullable=False))


def row_schema(
    vector_columns: Sequence[str],
    vector_dtype: str,
    kept: pa.Schema,
    *,
    keep_text: bool,
    place_columns: Sequence[str] = (),
    class_fields: Sequence[pa.Field] = (),
    takes_pairs: bool = False,
    metadata: Mapping[str, str],
) -> pa.Schema:
    """Returns the schema of a run's rows: one per document, window or word.

    Args:
        vector_columns: names of the vector columns.
        vector_dtype: ``float32`` or ``float16``.
        kept: schema of the kept input columns.
        keep_text: adds ``text``.
        place_columns: the columns of ``WINDOW_COLUMNS`` or ``WORD_COLUMNS`` to add, or ``WINDOW_DIGEST``.
        class_fields: columns of labels and scores.
        takes_pairs: adds ``PAIR_COLUMNS``, and ``text_pair`` to ``text``.
        metadata: file metadata.

    Raises:
        UsageError: a kept column has the name of an output column, apart from case.
    """
    fields = list(FIRST_COLUMNS)
    if takes_pairs:
        fields += [pa.field(name, kind, nullable=False) for name, kind in PAIR_COLUMNS.items()]
    places = WINDOW_COLUMNS | WORD_COLUMNS | {WINDOW_DIGEST: pa.string()}
    fields += [pa.field(name, places[name], nullable=False) for name in place_columns]
    fields += [pa.field(name, vector_type(vector_dtype), nullable=False) for name in vector_columns]
    fields += class_fields
    texts = ("text", "text_pair") if takes_pairs else ("text",)
    fields += [pa.field(name, pa.string(), nullable=False) for name in texts if keep_text]
    ours = {field.name.lower() for field in fields}
    clash = [name for name in kept.names if name.lower() in ours]
    if clash:
        raise UsageError(
            f"--keep_columns: {clash} are names of output columns of this run (upper and lower case do not "
            f"count). Give them other names, such as with --rename_columns {clash[0]}=NEW."
        )
    fields += [kept.field(i).with_nullable(True) for i in range(len(kept))]
    return pa.schema(fields, metadata=dict(metadata))


def vector_array(vectors: np.ndarray, vector_dtype: str) -> pa.ListArray:
    """Converts float32[rows, dim] to a list column without a loop over its numbers."""
    rows, dim = vectors.shape
    if vectors.size > MAX_NUMBERS:
        raise ValueError(f"{rows} vectors of dimension {dim} exceed the offsets of an Arrow list column")
    flat = np.ascontiguousarray(vectors).reshape(-1)
    values = pa.array(flat.astype(np.float16) if vector_dtype == "float16" else flat)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(dim))
    return pa.ListArray.from_arrays(offsets, values, type=vector_type(vector_dtype))


def dead_letter_batch(letters: Iterable[DeadLetter]) -> pa.RecordBatch:
    """Converts dead letters to a record batch."""
    rows = list(letters)
    columns = [
        pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in DEAD_LETTER_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTER_SCHEMA)


def class_fields(settings: ClassSettings) -> list[pa.Field]:
    """Returns the fields of labels and scores for these settings."""
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
    """Builds the columns of ``class_fields``, and possibly more.

    Args:
        settings: settings of the classification.
        output: float32[rows, dim], the model output.
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
    """Returns the labels of each row that reach the threshold, the best first."""
    # In float64, because float32 cannot represent thresholds such as 0.3 exactly.
    reached = np.take_along_axis(scores, ranks, axis=1).astype(np.float64) >= threshold
    offsets = np.concatenate([[0], np.cumsum(reached.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(ranks[reached])), type=_NAMES)

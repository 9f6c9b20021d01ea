"""Documents and their vectors to Arrow rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import Document, text_sha256
from beam_jobs.pipeline.rows.classes import class_arrays, class_fields
from beam_jobs.pipeline.rows.schema import WINDOW_COLUMNS, WORD_COLUMNS, row_schema, vector_array
from beam_jobs.pipeline.rows.text_context import part_texts
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.bundle.manifest import Rows
from model_bundle.inference.results import EncodedTexts, TextFailure

# What a batch of rows cost, in the metadata of its schema: it travels with the rows and is summed by whoever
# writes them, so it counts just what was kept.
WEIGHTS_KEY = "weights"
# How long the model took to load: not summed, the longest counts.
READY_KEY = "ready_milliseconds"
# Documents whose rows were taken over from earlier; the other keys count what was computed.
REUSED_KEY = "num_reused"
# Documents whose text was computed for another one.
REPEATED_KEY = "num_repeated"
COST_KEYS = (
    "num_documents",
    REUSED_KEY,
    REPEATED_KEY,
    "num_tokens",
    "num_truncated",
    "num_padded_tokens",
    "num_lost_tokens",
    "num_lost_words",
    "num_windowed",
    "num_windows",
    "model_milliseconds",
)


def schema_of(settings: EncodeSettings, kept: pa.Schema) -> pa.Schema:
    """Returns the schema of a job's rows.

    Raises:
        UsageError: a kept column has the name of one of the run's own.
    """
    return row_schema(
        settings.vector_columns,
        settings.vector_dtype,
        kept,
        keep_text=settings.keep_text,
        place_columns=place_columns(settings),
        class_fields=() if settings.classes is None else class_fields(settings.classes),
        metadata=settings.file_metadata(),
    )


def place_columns(settings: EncodeSettings) -> tuple[str, ...]:
    """The columns that say which window or word a row is; a word's spelling is input text."""
    columns = {Rows.DOCUMENT: {}, Rows.WINDOW: WINDOW_COLUMNS, Rows.WORD: WORD_COLUMNS}[settings.request.rows]
    return tuple(name for name in columns if not (settings.no_text and name == "word"))


def check_words(encoded: EncodedTexts) -> None:
    """Fails texts in which the bundle finds nothing: a vector of zeros would pass for a result."""
    failed = {failure.text_index for failure in encoded.failures}
    nothing = encoded.num_tokens == 0
    if encoded.words is not None:
        nothing |= encoded.num_words == 0
    for index in np.flatnonzero(nothing):
        if index not in failed:
            message = "The bundle's tokenizer finds no word in this text; there is nothing to embed."
            encoded.failures.append(TextFailure(int(index), "no_words", message))


def check_range(encoded: EncodedTexts, vector_dtype: str) -> None:
    """Fails texts whose numbers are too large for float16, where they would become infinite."""
    if vector_dtype != "float16":
        return
    largest = np.max([np.abs(v).max(axis=1, initial=0.0) for v in encoded.vectors.values()], axis=0)
    for index in np.unique(encoded.row_texts[largest > np.finfo(np.float16).max]):
        message = "A number of the vector is too large for float16; use --vector_dtype float32."
        encoded.failures.append(TextFailure(int(index), "float16_overflow", message))


def make_rows(
    documents: list[Document],
    encoded: EncodedTexts,
    alive: np.ndarray,
    schema: pa.Schema,
    settings: EncodeSettings,
) -> pa.RecordBatch:
    """Builds the record batch of the documents that got vectors, in their order.

    Args:
        alive: bool[documents], which have vectors.
    """
    kept = np.flatnonzero(alive[encoded.row_texts])
    texts = encoded.row_texts[kept]
    part = encoded.words if encoded.words is not None else encoded.windows
    places = None if part is None else np.stack([part.start[kept], part.end[kept]], axis=1)
    columns = input_columns(documents, texts, schema, places)
    columns["num_tokens"] = pa.array(encoded.num_tokens[texts], pa.int32())
    columns["was_truncated"] = pa.array(encoded.was_truncated[texts])
    if encoded.words is not None:
        words = encoded.words
        columns["word_index"] = pa.array(words.index[kept], pa.int32())
        columns["word"] = pa.array([words.words[i] for i in kept], pa.string())
    if encoded.windows is not None:
        windows = encoded.windows
        columns["num_tokens"] = pa.array(windows.num_tokens[kept], pa.int32())
        columns["window_index"] = pa.array(windows.index[kept], pa.int32())
    if places is not None:
        columns["char_start"], columns["char_end"] = (pa.array(column, pa.int32()) for column in places.T)
    if settings.classes is not None:
        (scored,) = encoded.vectors.values()
        columns |= class_arrays(settings.classes, scored[kept])
    else:
        for name, output in zip(settings.vector_columns, settings.request.outputs, strict=True):
            columns[name] = vector_array(encoded.vectors[output][kept], settings.vector_dtype)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def input_columns(
    documents: list[Document], texts: np.ndarray, schema: pa.Schema, places: np.ndarray | None
) -> dict[str, pa.Array]:
    """Builds the columns that come from the input and not from the model.

    Args:
        documents: at least one.
        texts: int64[rows], the position of the document that a row belongs to.
        schema: of the rows.
        places: int[rows, 2], where each row stands in its document; None where it is all of it.
    """
    columns = {
        "doc_id": _spread([document.doc_id for document in documents], texts, pa.string()),
        "source": _spread([document.source for document in documents], texts, pa.string()),
        "text_sha256": _spread([text_sha256(document.text) for document in documents], texts, pa.string()),
    }
    if "text" in schema.names:
        columns["text"] = (
            _spread([document.text for document in documents], texts, pa.string())
            if places is None
            else part_texts(documents, texts, places, schema)
        )
    num_kept = len(documents[0].columns)
    for index, field in enumerate(list(schema)[len(schema) - num_kept :]):
        columns[field.name] = _spread([document.columns[index] for document in documents], texts, field.type)
    return columns


def _spread(values: list[Any], texts: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Returns a document's value to each of its rows."""
    array = pa.array(values, kind)
    whole = len(texts) == len(values) and bool((texts == np.arange(len(values))).all())
    return array if whole else array.take(pa.array(texts))


def with_cost(
    rows: pa.RecordBatch,
    encoded: EncodedTexts,
    alive: np.ndarray,
    milliseconds: int,
    model: Mapping[str, str],
) -> pa.RecordBatch:
    """Writes on a batch what it cost, and of the model ``WEIGHTS_KEY`` (their kind) and ``READY_KEY``."""
    num_tokens, full = encoded.num_tokens[alive], encoded.num_tokens_untruncated[alive]
    windows = np.zeros(0, np.int64) if encoded.num_windows is None else encoded.num_windows[alive]
    cost = (
        int(alive.sum()),
        0,
        0,
        int(encoded.num_fed_tokens[alive].sum()),
        int((num_tokens < full).sum()),
        encoded.num_padded_tokens,
        int((full - num_tokens).sum()),
        _num_lost_words(encoded, alive),
        int((windows > 1).sum()),
        int(windows[windows > 1].sum()),
        milliseconds,
    )
    metadata = dict(rows.schema.metadata or {}) | {k.encode(): v.encode() for k, v in model.items()}
    metadata |= {k.encode(): str(v).encode() for k, v in zip(COST_KEYS, cost, strict=True)}
    return rows.replace_schema_metadata(metadata)


def _num_lost_words(encoded: EncodedTexts, alive: np.ndarray) -> int:
    """Counts the words that have no row because they stand past the limit."""
    if encoded.num_words_untruncated is None:
        return 0
    return int((encoded.num_words_untruncated - encoded.num_words)[alive].sum())

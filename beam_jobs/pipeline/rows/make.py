"""Documents and their vectors to Arrow rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import Document, text_sha256
from beam_jobs.pipeline.rows.schema import (
    WINDOW_COLUMNS,
    WORD_COLUMNS,
    class_arrays,
    class_fields,
    row_schema,
    vector_array,
)
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.bundle.manifest import Rows
from model_bundle.inference.results import EncodedTexts, TextFailure

# Beside a word stand so many characters on each side.
CONTEXT_CHARACTERS = 100


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


def part_texts(
    documents: list[Document], texts: np.ndarray, places: np.ndarray, schema: pa.Schema
) -> pa.Array:
    """Returns the text of rows: of a window its own, of a word itself in its surroundings.

    Args:
        documents: whose rows they are.
        texts: int64[rows], the position of the document that a row belongs to.
        places: int[rows, 2], first character of the part and the one behind its last.
        schema: of the rows.
    """
    around = CONTEXT_CHARACTERS if "word_index" in schema.names else 0
    return pa.array(
        [
            documents[text].text[max(start - around, 0) : end + around]
            for text, (start, end) in zip(texts.tolist(), places.tolist(), strict=True)
        ],
        pa.string(),
    )


def word_in(text: str, start: int, end: int) -> tuple[str, str, str]:
    """Takes the text of a word's row apart: what stands before the word, the word, what stands behind.

    Args:
        text: of the row.
        start, end: where the word stands in the document.
    """
    at = min(start, CONTEXT_CHARACTERS)
    stop = at + end - start
    return text[:at], text[at:stop], text[stop:]

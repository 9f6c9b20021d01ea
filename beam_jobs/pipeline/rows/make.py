"""Builds Arrow rows from documents and model outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import Document
from beam_jobs.base.units import count
from beam_jobs.pipeline.rows.schema import (
    PAIR_COLUMNS,
    WINDOW_COLUMNS,
    WINDOW_DIGEST,
    WORD_COLUMNS,
    class_arrays,
    class_fields,
    row_schema,
    vector_array,
)
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.bundle.specs import Rows
from model_bundle.inference.results import EncodedTexts, TextFailure

# Characters of context on each side of a word.
CONTEXT_CHARACTERS = 100


def schema_of(settings: EncodeSettings, kept: pa.Schema) -> pa.Schema:
    """Returns the schema of a job's rows.

    Raises:
        UsageError: a kept column has the name of an output column.
    """
    return row_schema(
        settings.vector_columns,
        settings.vector_dtype,
        kept,
        keep_text=settings.keep_text,
        place_columns=place_columns(settings),
        takes_pairs=settings.takes_pairs,
        class_fields=() if settings.classes is None else class_fields(settings.classes),
        metadata=settings.file_metadata(),
    )


def place_columns(settings: EncodeSettings) -> tuple[str, ...]:
    """Returns the columns that locate a window or word; ``--no_text`` excludes the word itself."""
    request = settings.request
    columns = [*{Rows.DOCUMENT: {}, Rows.WINDOW: WINDOW_COLUMNS, Rows.WORD: WORD_COLUMNS}[request.rows]]
    if request.rows is Rows.WINDOW and request.long_texts.windows_at is not None:
        columns.append(WINDOW_DIGEST)
    return tuple(name for name in columns if not (settings.no_text and name == "word"))


def check_results(encoded: EncodedTexts, settings: EncodeSettings) -> None:
    """Marks texts as failed whose results could be mistaken for good ones, or do not fit the settings."""
    _check_words(encoded)
    _check_range(encoded, settings.vector_dtype)
    _check_unknown(encoded, settings.max_unknown_fraction)


def _check_words(encoded: EncodedTexts) -> None:
    """Marks texts without any token or word as failed: a zero vector could be mistaken for a result."""
    failed = {failure.text_index for failure in encoded.failures}
    nothing = encoded.num_tokens == 0
    if encoded.words is not None:
        nothing |= encoded.num_words == 0
    for index in np.flatnonzero(nothing):
        if index not in failed:
            message = "The bundle's tokenizer finds no word in this text; there is nothing to embed."
            encoded.failures.append(TextFailure(int(index), "no_words", message))


def _check_range(encoded: EncodedTexts, vector_dtype: str) -> None:
    """Marks texts as failed whose vectors would overflow float16."""
    if vector_dtype != "float16":
        return
    largest = np.max([np.abs(v).max(axis=1, initial=0.0) for v in encoded.vectors.values()], axis=0)
    for index in np.unique(encoded.row_texts[largest > np.finfo(np.float16).max]):
        message = "A number of the vector is too large for float16; use --vector_dtype float32."
        encoded.failures.append(TextFailure(int(index), "float16_overflow", message))


def _check_unknown(encoded: EncodedTexts, max_fraction: float | None) -> None:
    """Marks texts as failed of whose own tokens more than a fraction is unknown; None allows all."""
    if encoded.unknown is None or max_fraction is None:
        return
    failed = {failure.text_index for failure in encoded.failures}
    unknown = encoded.unknown
    for index in np.flatnonzero(unknown.fractions > max_fraction):
        if index not in failed:
            message = (
                f"Unknown to the model: {unknown.of_texts[index]} of the text's "
                f"{count(int(unknown.num_own[index]), 'token')}, more than --max_unknown_fraction "
                f"{max_fraction:g} allows. Use a bundle whose vocabulary has its language or script."
            )
            encoded.failures.append(TextFailure(int(index), "unknown_tokens", message))


def make_rows(
    documents: list[Document],
    encoded: EncodedTexts,
    alive: np.ndarray,
    schema: pa.Schema,
    settings: EncodeSettings,
) -> pa.RecordBatch:
    """Builds the record batch of the documents with vectors, in their order.

    Args:
        documents: the documents of a buffer.
        encoded: their model outputs.
        alive: bool[documents], whether a document has vectors.
        schema: schema of the rows.
        settings: settings of the encoding step.
    """
    kept = np.flatnonzero(alive[encoded.row_texts])
    texts = encoded.row_texts[kept]
    part = encoded.words if encoded.words is not None else encoded.windows
    places = None if part is None else np.stack([part.start[kept], part.end[kept]], axis=1)
    columns = input_columns(documents, texts, schema, places)
    columns["num_tokens"] = pa.array(encoded.num_tokens[texts], pa.int32())
    columns["was_truncated"] = pa.array(encoded.was_truncated[texts])
    columns["num_unknown_tokens"] = _num_unknown(encoded, kept, texts)
    if encoded.num_cut is not None:
        for name, lost in zip(PAIR_COLUMNS, encoded.num_cut[texts].T, strict=True):
            columns[name] = pa.array(lost, pa.int32())
    if encoded.words is not None:
        words = encoded.words
        columns["word_index"] = pa.array(words.index[kept], pa.int32())
        columns["word"] = pa.array([words.words[i] for i in kept], pa.string())
    if encoded.windows is not None:
        windows = encoded.windows
        columns["num_tokens"] = pa.array(windows.num_tokens[kept], pa.int32())
        columns["window_index"] = pa.array(windows.index[kept], pa.int32())
        if windows.digests:
            columns[WINDOW_DIGEST] = pa.array([windows.digests[i] for i in kept.tolist()], pa.string())
    if places is not None:
        columns["char_start"], columns["char_end"] = (pa.array(column, pa.int32()) for column in places.T)
    if settings.classes is not None:
        (scored,) = encoded.vectors.values()
        columns |= class_arrays(settings.classes, scored[kept])
    else:
        for name, output in zip(settings.vector_columns, settings.request.outputs, strict=True):
            columns[name] = vector_array(encoded.vectors[output][kept], settings.vector_dtype)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _num_unknown(encoded: EncodedTexts, kept: np.ndarray, texts: np.ndarray) -> pa.Array:
    """Returns the unknown tokens of each window or document; nulls where they cannot be counted."""
    if encoded.unknown is None:
        return pa.nulls(len(kept), pa.int32())
    unknown = encoded.unknown
    return pa.array(unknown.of_texts[texts] if encoded.windows is None else unknown.of_rows[kept], pa.int32())


def input_columns(
    documents: list[Document], texts: np.ndarray, schema: pa.Schema, places: np.ndarray | None
) -> dict[str, pa.Array]:
    """Builds the columns that come from the input and not from the model.

    Args:
        documents: at least one.
        texts: int64[rows], the position of each row's document.
        schema: schema of the rows.
        places: int[rows, 2], character span of each row in its document, of a pair in the second text; None
            for whole documents.
    """
    columns = {
        "doc_id": _spread([document.doc_id for document in documents], texts, pa.string()),
        "source": _spread([document.source for document in documents], texts, pa.string()),
        "text_sha256": _spread([document.text_sha256 for document in documents], texts, pa.string()),
    }
    if "text" in schema.names:
        names = ("text", "text_pair")[: len(documents[0].texts)]
        for at, name in enumerate(names):
            own = [document.texts[at] for document in documents]
            if places is None or name != names[-1]:
                columns[name] = _spread(own, texts, pa.string())
            else:
                columns[name] = part_texts(own, texts, places, schema)
    num_kept = len(documents[0].columns)
    for index, field in enumerate(list(schema)[len(schema) - num_kept :]):
        columns[field.name] = _spread([document.columns[index] for document in documents], texts, field.type)
    return columns


def _spread(values: list[Any], texts: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Repeats each document's value for all its rows."""
    array = pa.array(values, kind)
    whole = len(texts) == len(values) and bool((texts == np.arange(len(values))).all())
    return array if whole else array.take(pa.array(texts))


def part_texts(own: list[str], texts: np.ndarray, places: np.ndarray, schema: pa.Schema) -> pa.Array:
    """Returns the text of each row: the window, or the word with its context.

    A document of 100,000 words has as many rows, so each has only a part of its text.

    Args:
        own: the texts of the documents.
        texts: int64[rows], the position of each row's document.
        places: int[rows, 2], character span of each row, its end exclusive.
        schema: schema of the rows.
    """
    around = CONTEXT_CHARACTERS if "word_index" in schema.names else 0
    return pa.array(
        [
            own[text][max(start - around, 0) : end + around]
            for text, (start, end) in zip(texts.tolist(), places.tolist(), strict=True)
        ],
        pa.string(),
    )


def word_in(text: str, start: int, end: int) -> tuple[str, str, str]:
    """Splits the text of a word's row into the context before, the word, and the context after.

    Args:
        text: text of the row.
        start, end: character span of the word in the document.
    """
    at = min(start, CONTEXT_CHARACTERS)
    stop = at + end - start
    return text[:at], text[at:stop], text[stop:]

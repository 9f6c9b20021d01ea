"""The text that stands beside a vector where a row is a part of a document: that part, not all of it.

A document of 100,000 words has as many rows; its whole text in each would be its square.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from beam_jobs.base.records import Document

# Beside a word stand so many characters on each side.
CONTEXT_CHARACTERS = 100


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

"""A document that is too long, where the run was to fail then: which one it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from beam_jobs.base.records import Document
from beam_jobs.errors import JobError
from model_bundle.errors import TextTooLongError


@contextlib.contextmanager
def naming_long_document(documents: Sequence[Document]) -> Iterator[None]:
    """Turns the encoder's error, which knows a position, into one that knows the document.

    Raises:
        JobError: names the document, its tokens and what to do.
    """
    try:
        yield
    except TextTooLongError as error:
        document = documents[error.text_index]
        raise JobError(
            f"Document {document.doc_id} of {document.source} has {error.num_tokens} tokens, the limit is "
            f"{error.max_tokens}, and --on_long fail ends the run there. Use --on_long windows, truncate or "
            "dead_letter, or leave such documents out."
        ) from error

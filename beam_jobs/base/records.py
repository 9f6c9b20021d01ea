"""The records of a job: documents, dead letters, dead files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Stage = Literal["read", "prepare", "encode"]


class EarlierRows(NamedTuple):
    """Where the rows of a document are in an earlier run: its file, a row group of it, and rows of that."""

    path: str
    group: int
    start: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class Document:
    """One input text.

    ``source`` is the file it came from, ``columns`` holds the values of the kept input columns in the
    order of their schema, ``numbers`` the numeric model inputs. ``earlier``: rows of an earlier text with
    this id, some of whose windows it may still have.
    """

    doc_id: str
    source: str
    text: str
    columns: tuple[Any, ...] = ()
    numbers: tuple[float, ...] = ()
    earlier: EarlierRows | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document without a row.

    ``reason`` is a stable identifier to count by, ``message`` describes this case. ``text`` is as much of the
    text as could be read (None with ``--no_text``), ``num_bytes`` its full size if known.
    """

    doc_id: str
    source: str
    stage: Stage
    reason: str
    message: str
    text: str | None = None
    text_sha256: str | None = None
    num_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeadFile:
    """A file that could not be read to its end; ``num_documents`` were read before the error."""

    source: str
    reason: str
    message: str
    num_documents: int


@dataclass(frozen=True, slots=True)
class UnchangedDocuments:
    """The number of documents without a row in this run because an earlier run has it."""

    number: int


def text_sha256(text: str) -> str:
    """Returns the sha256 of a text's UTF-8 bytes, the key for reusing vectors."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def dead_letter(
    document: Document, stage: Stage, reason: str, message: str, *, no_text: bool = False
) -> DeadLetter:
    """Builds the dead letter of a completely read document; ``no_text`` omits its text."""
    data = document.text.encode("utf-8", errors="surrogatepass")
    return DeadLetter(
        doc_id=document.doc_id,
        source=document.source,
        stage=stage,
        reason=reason,
        message=message,
        text=None if no_text else document.text.encode("utf-8", errors="replace").decode("utf-8"),
        text_sha256=hashlib.sha256(data).hexdigest(),
        num_bytes=len(data),
    )

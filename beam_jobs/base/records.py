"""The records of a job: documents, dead letters, dead files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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
    """One input text, or two that are scored together: then ``text_pair`` is the second.

    ``source`` is the file it came from, ``columns`` holds the values of the kept input columns in the
    order of their schema, ``numbers`` the numeric model inputs. ``earlier``: rows of an earlier text with
    this id, some of whose windows it may still have.
    """

    doc_id: str
    source: str
    text: str
    columns: tuple[Any, ...] = ()
    numbers: tuple[float, ...] = ()
    text_pair: str | None = None
    earlier: EarlierRows | None = None

    @property
    def model_input(self) -> str | tuple[str, str]:
        """The text, or both texts of a pair."""
        return self.text if self.text_pair is None else (self.text, self.text_pair)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text, or both texts of a pair."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def text_sha256(self) -> str:
        """The key for reusing results: the sha256 of the text's UTF-8 bytes.

        Of a pair, it is the sha256 of the two texts' digests in hexadecimal, one after the other.
        """
        return text_sha256(*self.texts)


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


def text_sha256(*texts: str) -> str:
    """Returns the digest of a text or of a pair, see ``Document``; a lone surrogate matches nothing."""
    first, *others = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts)
    return hashlib.sha256("".join([first, *others]).encode()).hexdigest() if others else first


def shown_text(texts: Sequence[str]) -> str:
    """Returns the text of a dead letter; that of a pair is a JSON list of both."""
    readable = [text.encode("utf-8", errors="replace").decode("utf-8") for text in texts]
    return readable[0] if len(readable) == 1 else json.dumps(readable, ensure_ascii=False)


def dead_letter(
    document: Document, stage: Stage, reason: str, message: str, *, no_text: bool = False
) -> DeadLetter:
    """Builds the dead letter of a completely read document; ``no_text`` omits its text."""
    return DeadLetter(
        doc_id=document.doc_id,
        source=document.source,
        stage=stage,
        reason=reason,
        message=message,
        text=None if no_text else shown_text(document.texts),
        text_sha256=document.text_sha256,
        num_bytes=sum(len(text.encode("utf-8", errors="surrogatepass")) for text in document.texts),
    )

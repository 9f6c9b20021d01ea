"""Converts each record to a ``Document`` or to a ``DeadLetter`` with the reason.

Reasons of stage ``read``:

====================  ===========================================================================
``too_large``         over ``--max_document_bytes``; the first 1,000 characters are kept
``invalid_encoding``  bytes not valid in ``--encoding``; kept with replacement characters
``invalid_unicode``   a lone surrogate; kept with replacement characters
``broken_json``       a line that is not one JSON object
``bad_csv_row``       wrong quotes or a wrong number of fields
``missing_text``      every text column is absent, null or empty, with ``--on_missing_text dead_letter``
``blank_text``        of a pair, all columns of one of the two texts are absent or null
``text_not_string``   a text column holds a number, a list …
``missing_id``        the id column is absent, null, empty, or neither a string nor an integer
``column_type``       a kept column holds a value that does not fit its type
``missing_number``    a numeric model input is absent, null, empty or NaN
``not_a_number``      a numeric model input is not a finite number
====================  ===========================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from beam_jobs.base.records import DeadLetter, Document, shown_text, text_sha256
from beam_jobs.errors import JobError
from beam_jobs.pipeline.read.files.partitions import partition_values
from beam_jobs.pipeline.read.record_error import RecordError, checked_unicode
from beam_jobs.pipeline.read.stated_types import stated_converter
from beam_jobs.pipeline.read.types import DamagedFileError, FileInfo, ReadPlan

MAX_HEAD_CHARS = 1_000
Outcomes = Generator[Document | DeadLetter, None, None]
Converter = Callable[[Any], Any]


class RowBuilder:
    """Converts the records of one file to documents or dead letters.

    Args:
        file: the file of the records.
        plan: the roles of its columns.
        converters: one per carried column, from a value of the format to the stored value; they may raise
            RecordError.

    Raises:
        DamagedFileError: the path of the file lacks a partition, or its value is not of the stated type.
    """

    def __init__(self, file: FileInfo, plan: ReadPlan, converters: Sequence[Converter] = ()) -> None:
        options = plan.options
        self._source, self._prefix = file.path, file.relative + "#"
        self._separator, self._max_bytes = options.text_separator, options.max_document_bytes
        self._on_missing = options.on_missing_text
        self._has_id, self._no_text = options.id_column is not None, options.no_text
        self._num_pair = len(options.text_pair_columns)
        self._converters, self._num_kept = tuple(converters), len(plan.kept_schema)
        self._partitions = _partitions(file, plan)

    def position_id(self, position: int) -> str:
        """Returns the id of a record at a position, for files without an id column."""
        return f"{self._prefix}{position}"

    def build(
        self, position: int, texts: Sequence[Any], id_value: Any = None, kept: Sequence[Any] = ()
    ) -> Document | DeadLetter:
        """Converts the values of one record.

        Args:
            position: position of the record in its file; part of the id if there is no id column.
            texts: values of the text columns.
            id_value: value of the id column, if there is one.
            kept: values of the carried columns before conversion.
        """
        doc_id = f"{self._prefix}{position}"
        try:
            if self._has_id:
                doc_id = checked_id(id_value)
            text, second = self._texts(texts, doc_id)
            own = (text,) if second is None else (text, second)
            num_chars = sum(map(len, own))
            if num_chars * 4 > self._max_bytes and (size := sum(map(_num_bytes, own))) > self._max_bytes:
                return self.oversized(doc_id, _head(own), text_sha256(*own), size)
            columns = tuple([convert(value) for convert, value in zip(self._converters, kept, strict=True)])
        except RecordError as error:
            readable = self._readable(texts)
            data = None if readable is None else readable.encode()
            return self.dead(doc_id, error.reason, str(error), readable, data)
        if self._partitions:
            columns = self._with_partitions(columns)
        kept, numbers = columns[: self._num_kept], columns[self._num_kept :]
        return Document(doc_id, self._source, text, kept, numbers, second)

    def document(self, doc_id: str, text: str) -> Document | DeadLetter:
        """Builds a document without columns; ``text`` must be valid Unicode."""
        try:
            return Document(doc_id, self._source, text or self._missing(doc_id), self._with_partitions(()))
        except RecordError as error:
            return self.dead(doc_id, error.reason, str(error), None, None)

    def _with_partitions(self, columns: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(columns)
        for index, value in self._partitions:
            values.insert(index, value)
        return tuple(values)

    def _texts(self, texts: Sequence[Any], doc_id: str) -> tuple[str, str | None]:
        """Returns the text, and the second one where documents are pairs.

        An empty text of a pair is a text unless ``--on_missing_text`` says otherwise; an absent one is not.

        Raises:
            RecordError, JobError: see ``_missing`` and ``joined_text``; also ``blank_text`` for a pair.
        """
        if not self._num_pair:
            return joined_text(texts, self._separator) or self._missing(doc_id), None
        both = texts[: -self._num_pair], texts[-self._num_pair :]
        first, second = (joined_text(part, self._separator) for part in both)
        for which, text, part in zip(("first", "second"), (first, second), both, strict=True):
            text or self._missing(doc_id, f"{which} text")
            if all(value is None for value in part):
                raise RecordError(
                    "blank_text", f"Expected two texts, but the columns of the {which} are absent or null."
                )
        return first, second

    def _missing(self, doc_id: str, what: str = "text") -> str:
        """Returns the text of a document without text, which becomes a blank one, by ``--on_missing_text``.

        Raises:
            RecordError: ``missing_text`` for ``dead_letter``.
            JobError: for ``fail``.
        """
        if self._on_missing == "dead_letter":
            raise RecordError(
                "missing_text", f"Expected {what}, but every column of it is absent, null or empty."
            )
        if self._on_missing == "fail":
            raise JobError(
                f"Document {doc_id} of {self._source} has no {what}, and --on_missing_text fail ends the "
                "run. Use blank or dead_letter, or leave such documents out."
            )
        return ""

    def _readable(self, texts: Sequence[Any]) -> str | None:
        """Returns what can be shown of the texts of a dead letter; None if nothing can."""
        if not self._num_pair:
            return _readable_text(texts, self._separator)
        both = texts[: -self._num_pair], texts[-self._num_pair :]
        readable = [_readable_text(part, self._separator) for part in both]
        return None if readable == [None, None] else shown_text([part or "" for part in readable])

    def dead(
        self, doc_id: str, reason: str, message: str, text: str | None, data: bytes | None
    ) -> DeadLetter:
        """Builds a dead letter; its digest and size are those of ``data``."""
        digest = None if data is None else hashlib.sha256(data).hexdigest()
        size = None if data is None else len(data)
        shown = None if self._no_text else text
        return DeadLetter(doc_id, self._source, "read", reason, message, shown, digest, size)

    def undecodable(self, doc_id: str, error: UnicodeDecodeError, encoding: str) -> DeadLetter:
        """Builds the dead letter of a record with invalid bytes, which are in the error."""
        message = (
            f"Expected {encoding}, but byte {error.start} of the record is invalid ({error.reason}). "
            "Set the right --encoding, or repair the record."
        )
        text = error.object.decode(encoding, "replace")
        return self.dead(doc_id, "invalid_encoding", message, repaired(text), error.object)

    def oversized(self, doc_id: str, head: str, digest: str, size: int, hint: str = "") -> DeadLetter:
        """Builds the dead letter of a record that is too large, of which only the head was kept."""
        message = (
            f"The record has {size:,} bytes, but --max_document_bytes allows {self._max_bytes:,}. "
            f"Raise the limit or split the record.{hint}"
        )
        shown = None if self._no_text else head[:MAX_HEAD_CHARS]
        return DeadLetter(doc_id, self._source, "read", "too_large", message, shown, digest, size)


def _partitions(file: FileInfo, plan: ReadPlan) -> list[tuple[int, Any]]:
    """Returns the kept columns that are partitions: their positions, and the values for all documents."""
    if not plan.partition_columns:
        return []
    found, values = partition_values(file.path), []
    for index, field in enumerate(plan.kept_schema):
        if field.name not in plan.partition_columns:
            continue
        if field.name not in found:
            raise DamagedFileError(
                "missing_column", f"Expected a folder {field.name}=… in the path, but there is none."
            )
        try:
            values.append((index, stated_converter(field.name, field.type)(found[field.name])))
        except RecordError as error:
            raise DamagedFileError(error.reason, str(error)) from error
    return values


def _head(texts: Sequence[str]) -> str:
    """Returns as much of texts as a dead letter shows; of a pair, a whole JSON list."""
    length = MAX_HEAD_CHARS
    while len(head := shown_text([text[:length] for text in texts])) > MAX_HEAD_CHARS:
        length -= -(-length // 16)
    return head


def _num_bytes(text: str) -> int:
    return len(text.encode())


def joined_text(texts: Sequence[Any], separator: str) -> str:
    """Joins the text columns of a record without nulls and empty ones, which CSV cannot tell apart.

    Raises:
        RecordError: ``text_not_string``, ``invalid_unicode``.
    """
    parts = [part for part in texts if part is not None and part != ""]
    if not parts:
        return ""
    for part in parts:
        if type(part) is not str:
            what = type(part).__name__
            raise RecordError(
                "text_not_string", f"Expected text, but a text column holds a value of type {what}."
            )
    return checked_unicode(parts[0] if len(parts) == 1 else separator.join(parts), "text")


def checked_id(value: Any) -> str:
    """Returns the document id for a value of the id column.

    Raises:
        RecordError: ``missing_id``, ``invalid_unicode``.
    """
    if type(value) is str and value:
        return checked_unicode(value, "id")
    if type(value) is int:
        return str(value)
    what = "nothing" if value is None or value == "" else f"a value of type {type(value).__name__}"
    raise RecordError("missing_id", f"Expected a string or an integer in the id column, but found {what}.")


def _readable_text(texts: Sequence[Any], separator: str) -> str | None:
    """Returns the text of a dead letter; None if there is none or it cannot be shown."""
    parts = [part for part in texts if part is not None]
    if not parts:
        return None
    try:
        text = separator.join(part if type(part) is str else json.dumps(part, default=str) for part in parts)
    except (TypeError, ValueError, RecursionError):  # keys that are not strings, nesting
        return None
    return repaired(text)


def repaired(text: str) -> str:
    r"""Replaces lone surrogates by the replacement character.

    >>> ascii(repaired("a\ud800b"))
    "'a\\ufffdb'"
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

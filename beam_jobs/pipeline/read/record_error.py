"""``RecordError``: why a record cannot become a document."""

from __future__ import annotations


class RecordError(Exception):
    """A record cannot become a document. The message never contains text of the input."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def checked_unicode(text: str, what: str) -> str:
    """Returns the text unchanged if it is valid Unicode.

    Raises:
        RecordError: ``invalid_unicode``.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"The {what} contains a lone surrogate at character {error.start}."
            raise RecordError("invalid_unicode", message) from error
    return text

"""Characters: which encodings can be cut into lines as bytes, and a way through for those that cannot."""

from __future__ import annotations

import codecs
import io
from typing import Any

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.types import DamagedFileError

BLOCK_BYTES = 1 << 16
BOM_UTF8 = codecs.BOM_UTF8
# In these no byte of a longer character is below 0x30, so a 0x0A byte is always a line feed. EBCDIC is also
# among the "cp" ones; it fails the test of the line feed itself.
_LINE_SAFE_PREFIXES = (
    *("ascii", "utf-8", "iso8859", "latin", "cp", "koi8", "mac", "tis", "kz1048", "ptcp154", "hp", "palmos"),
    *("shift_jis", "euc_", "gb", "big5", "johab"),
)
_INVALID_MARK = "\udcff"
# Name of an error handler for codecs.
MARK_INVALID = "beam_jobs.mark_invalid"


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    """Puts a mark that no valid text has in the place of bytes that do not decode."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _INVALID_MARK, error.end


codecs.register_error(MARK_INVALID, _mark_invalid)


def check_encoding(encoding: str) -> None:
    """Refuses an encoding that Python does not know or that is none for text.

    Raises:
        UsageError: names the encoding and a few that work.
    """
    try:
        sample = "a\n".encode(encoding)
        codecs.getincrementaldecoder(encoding)(MARK_INVALID).decode(sample, final=True)
    except (LookupError, ValueError, TypeError) as error:
        raise UsageError(
            f"--encoding {encoding!r} is not a text encoding that Python knows ({error}). "
            "Common ones: utf-8, utf-16, cp1252, latin-1, shift_jis, gb18030."
        ) from error


def is_line_safe(encoding: str) -> bool:
    """Whether files in this encoding can be cut at the byte 0x0A.

    >>> [name for name in ("utf-8", "cp1252", "shift_jis", "utf-16", "cp037") if is_line_safe(name)]
    ['utf-8', 'cp1252', 'shift_jis']
    """
    return codecs.lookup(encoding).name.startswith(_LINE_SAFE_PREFIXES) and "\n".encode(encoding) == b"\n"


def line_encoding(encoding: str) -> str:
    """Names the encoding of the lines that ``open_lines`` gives for a file in ``encoding``."""
    name = codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" or not is_line_safe(encoding) else name


class TranscodedFile(io.RawIOBase):
    """The UTF-8 bytes of a file in another encoding.

    Where the file's bytes do not decode, the UTF-8 is invalid in the same place, so that the record there
    becomes a dead letter and its neighbours do not.

    Raises (while reading):
        DamagedFileError: ``no_byte_order_mark`` in UTF-16 or UTF-32, which must say their byte order.
    """

    def __init__(self, source: io.RawIOBase, encoding: str) -> None:
        super().__init__()
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(MARK_INVALID)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Says that this can be read."""
        return True

    def close(self) -> None:
        """Closes the source too."""
        self._source.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer; 0 means the end."""
        while not self._ready:
            data = self._source.read(BLOCK_BYTES) or b""
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeError as error:
                raise DamagedFileError(
                    "no_byte_order_mark",
                    f"The file is not in the encoding given ({error}). Check --encoding; without a byte "
                    "order mark, UTF-16 is utf-16-le or utf-16-be.",
                ) from error
            self._ready = memoryview(text.encode("utf-8", "surrogatepass"))
            if not data and not self._ready:
                return 0
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

"""Text encodings: splitting at line feeds, transcoding where that is impossible, guesses for errors."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import Any

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.types import DamagedFileError

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The most frequent Chinese characters, simplified and traditional: about half of any text.
_COMMON_CHINESE = frozenset(
    "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著"
    "下自之年过過发發后後作里用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進"
    "好小部其些主样樣理心她本前开開但因只从從想实實\uff0c。、"
)
BLOCK_BYTES = 1 << 16
BOM_UTF8 = codecs.BOM_UTF8
# In these encodings no byte of a multi-byte character is below 0x30, so 0x0A is always a line feed. EBCDIC
# also has "cp" names, but another line feed, which is checked separately.
_LINE_SAFE_PREFIXES = (
    *("ascii", "utf-8", "iso8859", "latin", "cp", "koi8", "mac", "tis", "kz1048", "ptcp154", "hp", "palmos"),
    *("shift_jis", "euc_", "gb", "big5", "johab"),
)
_INVALID_MARK = "\udcff"
# Name of a codecs error handler.
MARK_INVALID = "beam_jobs.mark_invalid"


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    """Replaces bytes that do not decode by a mark that no valid text has."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _INVALID_MARK, error.end


codecs.register_error(MARK_INVALID, _mark_invalid)


def check_encoding(encoding: str) -> None:
    """Rejects an encoding that Python does not know or that is not for text.

    Raises:
        UsageError: with the encoding and some valid ones.
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
    """Whether files in this encoding can be split at the byte 0x0A.

    >>> [name for name in ("utf-8", "cp1252", "shift_jis", "utf-16", "cp037") if is_line_safe(name)]
    ['utf-8', 'cp1252', 'shift_jis']
    """
    return codecs.lookup(encoding).name.startswith(_LINE_SAFE_PREFIXES) and "\n".encode(encoding) == b"\n"


def line_encoding(encoding: str) -> str:
    """Returns the encoding of the lines of ``open_lines`` for a file in ``encoding``."""
    name = codecs.lookup(encoding).name
    return "utf-8" if name == "utf-8-sig" or not is_line_safe(encoding) else name


class TranscodedFile(io.RawIOBase):
    """The content of a file in another encoding as UTF-8 bytes.

    Bytes that do not decode become invalid UTF-8 in the same place, so that this record becomes a dead letter
    and its neighbours do not.

    Raises (while reading):
        DamagedFileError: ``no_byte_order_mark`` in UTF-16 or UTF-32, whose byte order must be known.
    """

    def __init__(self, source: io.RawIOBase, encoding: str) -> None:
        super().__init__()
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(MARK_INVALID)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def close(self) -> None:
        """Also closes the source."""
        self._source.close()
        super().close()

    def readinto(self, buffer: Any, /) -> int:
        """Fills a part of the buffer; returns 0 at the end."""
        while not self._ready:
            data = self._source.read(BLOCK_BYTES) or b""
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeError as error:
                raise DamagedFileError(
                    "no_byte_order_mark",
                    f"The file is not in the given encoding ({error}). Check --encoding; without a byte "
                    "order mark, UTF-16 is utf-16-le or utf-16-be.",
                ) from error
            self._ready = memoryview(text.encode("utf-8", "surrogatepass"))
            if not data and not self._ready:
                return 0
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _is_kana(char: str) -> bool:
    return "\u3040" <= char <= "\u30ff" or char in "、。"


def _is_chinese(char: str) -> bool:
    return char in _COMMON_CHINESE


def _is_hangul(char: str) -> bool:
    return "\uac00" <= char <= "\ud7a3"


# Encoding, its typical characters, and their minimum share among non-ASCII characters. In Japanese about half
# are kana, in Chinese 0.4 are common characters, in Korean nearly all are syllables.
_MULTI_BYTE: tuple[tuple[str, Callable[[str], bool], float], ...] = (
    ("shift_jis", _is_kana, 0.2),
    ("euc_jp", _is_kana, 0.2),
    ("euc_kr", _is_hangul, 0.9),
    ("gb18030", _is_chinese, 0.15),
    ("big5", _is_chinese, 0.15),
)


def check_head(head: bytes, encoding: str, path: str) -> str | None:
    """Rejects a file if most of its first lines are not in the expected encoding.

    Args:
        head: the file's first bytes, decompressed.
        encoding: the value of ``--encoding``.
        path: path for the error message.

    Returns:
        A warning if some of the lines are not in this encoding.

    Raises:
        UsageError: with an encoding that fits better.
    """
    marked = marked_encoding(head) if is_line_safe(encoding) else None
    num_bad, num_lines = _bad_lines(head, encoding)
    if marked is None and not num_bad:
        return None
    better = suggest_encoding(head)
    way_out = (
        "Repair the file." if better == encoding else f"Try --encoding {better}, which fits its beginning."
    )
    found = f"it is {marked}" if marked else f"{num_bad:,} of its first {num_lines:,} lines are not"
    message = f"Expected {path} to be {encoding}, but {found}. {way_out}"
    if marked is None and 2 * num_bad <= num_lines:
        return message
    raise UsageError(message)


def _bad_lines(head: bytes, encoding: str) -> tuple[int, int]:
    """Returns the number of lines that do not decode, and of all lines."""
    if not is_line_safe(encoding):
        try:
            text = codecs.getincrementaldecoder(encoding)(MARK_INVALID).decode(head)
        except UnicodeError:  # UTF-16 and UTF-32 without a byte order mark
            return 1, 1
        head = text.encode("utf-8", "surrogatepass")
    lines = head.split(b"\n")
    lines = lines[:-1] or lines  # the last may be cut
    name = line_encoding(encoding)
    return sum(_decoded(line, name) is None for line in lines), len(lines)


def suggest_encoding(head: bytes) -> str:
    """Guesses the encoding of a file's first bytes; latin-1, which fits all bytes, as a last resort.

    >>> suggest_encoding("Ça coûte cher".encode("cp1252")), suggest_encoding("これはペン".encode("euc_jp"))
    ('cp1252', 'euc_jp')
    """
    marked = marked_encoding(head)
    if marked is not None:
        return marked
    if _decoded(head, "utf-8") is not None:
        return "utf-8"
    for name, is_typical, least in _MULTI_BYTE:
        if _share(head, name, is_typical) >= least:
            return name
    if _is_cyrillic(head):
        return "cp1251"
    return "latin-1" if _decoded(head, "cp1252") is None else "cp1252"


def marked_encoding(head: bytes) -> str | None:
    """Detects UTF-16 and UTF-32 by byte order mark, or UTF-16 by the zero bytes of Latin letters."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for name, zeros, others in (("utf-16-le", head[1::2], head[0::2]), ("utf-16-be", head[0::2], head[1::2])):
        if zeros.count(0) > 0.4 * len(zeros) > 0 and sum(byte > 31 for byte in others) > 0.8 * len(others):
            return name
    return None


def _decoded(head: bytes, encoding: str) -> str | None:
    try:
        # Not final, because the last character may be cut.
        return codecs.getincrementaldecoder(encoding)().decode(head, final=False)
    except UnicodeDecodeError:
        return None


def _share(head: bytes, encoding: str, is_typical: Callable[[str], bool]) -> float:
    special = [char for char in _decoded(head, encoding) or "" if not char.isascii()]
    return sum(map(is_typical, special)) / len(special) if special else 0.0


def _is_cyrillic(head: bytes) -> bool:
    """Whether non-ASCII bytes are adjacent, as in Cyrillic words, and not single accented letters."""
    special = [index for index, byte in enumerate(head) if byte >= 0xC0]
    pairs = sum(head[index - 1] >= 0xC0 for index in special if index)
    return pairs > 0.6 * len(special)

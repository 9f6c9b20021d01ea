"""Files behind ``https://`` addresses: one file an address, for reading; parts of it where the server can."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from beam_jobs.errors import UsageError
from model_bundle.base.objects.store import Entry

_TIMEOUT_SECONDS = 60
_RETRY = Retry(
    6, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=("GET", "HEAD")
)
_BUFFER_BYTES = 1 << 16


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if it does not exist.

    Raises:
        OSError: the server refuses, or does not say the size.
    """
    found = _head(path)
    return None if found is None else found[0]


def read(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    try:
        with open_file(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None


def open_file(path: str) -> Any:
    """Opens a file for reading; the stream can seek.

    Raises:
        FileNotFoundError: it does not exist.
    """
    found = _head(path)
    if found is None:
        raise FileNotFoundError(f"{path} does not exist")
    return io.BufferedReader(_Reader(path, *found), _BUFFER_BYTES)


def list_prefix(prefix: str) -> list[Entry]:
    """Refuses: a web server lists nothing."""
    raise UsageError(
        f"{prefix}…: an https:// address names one file, without wildcards and query: a server lists no "
        "folder, and a query may be a secret, which would be stored with each row. Name the files one by one."
    )


class _Reader(io.RawIOBase):
    """Reads a response from front to back, and asks for another one after a seek: of the same version.

    Args:
        path: the address.
        size: bytes of the file.
        headers: of the answer that said the size.
    """

    def __init__(self, path: str, size: int, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._path, self._size, self._headers, self._offset = path, size, headers, 0
        self._session = _session(path)
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        if base + offset != self._offset:
            self._end_body()
        self._offset = max(0, base + offset)
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        if self._offset >= self._size:
            return 0
        try:
            data = self._read(len(buffer))
        except (OSError, requests.RequestException):  # once more: long reads lose connections
            self._end_body()
            data = self._read(len(buffer))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._end_body()
            self._session.close()
        super().close()

    def _read(self, size: int) -> bytes:
        if self._body is None:
            self._body = self._from_offset()
        data = bytes(self._body.raw.read(min(size, self._size - self._offset)))
        if not data:
            raise OSError(f"{self._path} ended after {self._offset:,} of {self._size:,} bytes")
        return data

    def _from_offset(self) -> requests.Response:
        headers = {"Range": f"bytes={self._offset}-"} if self._offset else {}
        answer = self._session.get(self._path, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
        _check(self._path, answer)
        if not _is_same_version(self._headers, answer.headers):
            raise OSError(f"{self._path} was replaced while it was read. Start again.")
        rest = self._offset if answer.status_code == 200 else 0  # the server gives no parts
        while rest:
            rest -= len(answer.raw.read(min(rest, 1 << 20))) or rest
        return answer

    def _end_body(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None


def _head(path: str) -> tuple[int, Mapping[str, str]] | None:
    """Returns a file's size in bytes and the headers of the answer; None if it does not exist."""
    with _session(path) as session:
        answer = session.head(path, allow_redirects=True, timeout=_TIMEOUT_SECONDS)
        if answer.status_code in (404, 410):
            return None
        _check(path, answer)
        size = answer.headers.get("Content-Length")
        if size is None:
            raise OSError(f"{path}: the server does not say the size (Content-Length). Download the file.")
        return int(size), answer.headers


def _is_same_version(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two answers are of one version of a file, as far as the server says."""
    # Servers behind one address may have tags of their own, but the same times.
    names = [name for name in ("Last-Modified", "ETag") if name in one and name in other]
    return not names or one[names[0]] == other[names[0]]


def _session(path: str) -> requests.Session:
    """Returns a session that asks again when a server is busy, for the stored bytes as they are.

    Raises:
        UsageError: the address has what may be a secret: it would be in the manifest and in each row.
    """
    parts = urlsplit(path)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"{parts.scheme}://{parts.hostname}{parts.path}: write the address without user, password and "
            "query, which would be stored with each row. Download what needs them."
        )
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=_RETRY))
    return session


def _check(path: str, answer: requests.Response) -> None:
    if answer.status_code in (401, 403):
        raise PermissionError(f"{path}: the server answers {answer.status_code} {answer.reason}")
    if answer.status_code in (404, 410):
        raise FileNotFoundError(f"{path} does not exist")
    if not answer.ok:
        raise OSError(f"{path}: the server answers {answer.status_code} {answer.reason}")

"""Which module answers for a path, and what each of them can do.

Failures are ``OSError``, after a client's own retries. Paths are taken literally.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol, cast

from beam_jobs.base.config import OUTPUT_SCHEMES
from beam_jobs.errors import UsageError
from model_bundle.base.objects.clients import SCHEMES
from model_bundle.base.objects.store import Entry

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


class Readable(Protocol):
    """Files that can be read."""

    def size_of(self, path: str) -> int | None:
        """Returns a file's size in bytes; None if it does not exist."""

    def read(self, path: str) -> bytes | None:
        """Reads a small file; None if it does not exist."""

    def open_file(self, path: str) -> Any:
        """Opens a file for reading its stored bytes; the stream can seek."""


class Listed(Readable, Protocol):
    """Remote files, which have no folders."""

    def list_prefix(self, prefix: str) -> list[Entry]:
        """Lists all files whose path begins with a prefix, in no order."""


class Writable(Readable, Protocol):
    """Files that can be written, too. Whether a move is one step is not promised."""

    def open_new(self, path: str) -> Any:
        """Opens a file for writing; a remote one appears when the stream is closed."""

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file; False if it exists, which may be by this call, if its answer was lost."""

    def replace(self, path: str, data: bytes) -> object:
        """Writes a small file at once: readers see the old or the new content, never a part."""

    def update(self, path: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        """Replaces a file by what is made of it; False if another writer came between."""

    def move(self, source: str, target: str) -> None:
        """Moves a file within its bucket or disk, and replaces one at the target."""

    def list_files(self, folder: str) -> dict[str, int]:
        """Returns the files directly in a folder and their sizes in bytes."""

    def list_below(self, root: str, *parts: str) -> list[str]:
        """Returns the names of the folders directly in ``root`` that contain the file ``parts``."""

    def delete(self, path: str) -> None:
        """Removes a file if it exists."""

    def delete_folder(self, path: str) -> None:
        """Removes a folder and its contents if it exists."""

    def check_conditions(self, folder: str) -> None:
        """Rejects storage on which two callers of ``create`` could both succeed."""


def scheme_of(path: str) -> str | None:
    """Returns the scheme of a URL; None for a local path."""
    found = _SCHEME.match(path)
    return None if found is None else found[1]


def readable(path: str) -> Readable:
    """Returns what reads a path.

    Raises:
        UsageError: nothing here knows the scheme.
    """
    scheme = scheme_of(path)
    # Imported on first use: each needs other packages.
    if scheme is None:
        from beam_jobs.store.files import local

        return local
    if scheme == "gs":
        from beam_jobs.store.files import google

        return google
    if scheme in SCHEMES:
        from beam_jobs.store.files import vendors

        return vendors
    if scheme == "hf":
        from beam_jobs.store.files import hub

        return hub
    if scheme in ("http", "https"):
        from beam_jobs.store.files import web

        return web
    from beam_jobs.store.files import beam

    if beam.knows(path):
        return beam
    raise UsageError(
        f"{path}: expected a local path or a URL that begins with one of "
        f"{', '.join(f'{known}://' for known in (*OUTPUT_SCHEMES, 'hf', 'https'))}."
    )


def listed(path: str) -> Listed:
    """Returns what lists remote files."""
    return cast("Listed", readable(path))


def writable(path: str) -> Writable:
    """Returns what writes a path.

    Raises:
        UsageError: it can only be read, or nothing here knows the scheme.
    """
    files = readable(path)
    if not hasattr(files, "create"):
        raise UsageError(f"{path} can only be read. Name a local folder, or one in gs://, s3:// or az://.")
    return cast("Writable", files)

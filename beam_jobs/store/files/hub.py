"""Files of the Hugging Face Hub, for reading: ``hf://datasets/OWNER/NAME[@REVISION]/PATH``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model_bundle.base.objects.store import Entry

_HF = "hf://"
# Of one request; the next one is read ahead.
_BLOCK_BYTES = 1 << 23


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None if it does not exist."""
    try:
        with _translated(path):
            found = _hub().info(path)
    except FileNotFoundError:
        return None
    return int(found["size"]) if found["type"] == "file" else None


def list_prefix(prefix: str) -> list[Entry]:
    """Lists the files whose path begins with a prefix, with one listing of the folder around it."""
    with _translated(prefix):
        found = _hub().find(prefix.rpartition("/")[0], detail=True)
    entries = [Entry(f"{_HF}{name}", int(item["size"]), 0.0) for name, item in found.items()]
    return [entry for entry in entries if entry.path.startswith(prefix)]


def read(path: str) -> bytes | None:
    """Reads a small file; None if it does not exist."""
    try:
        with _translated(path):
            return bytes(_hub().cat_file(path))
    except FileNotFoundError:
        return None


def open_file(path: str) -> Any:
    """Opens a file for reading; the stream can seek.

    Raises:
        FileNotFoundError: it does not exist.
        PermissionError: the token of ``hf auth login`` or ``HF_TOKEN`` does not suffice.
    """
    with _translated(path):
        return _hub().open(path, "rb", block_size=_BLOCK_BYTES)


def _hub() -> Any:
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Turns errors of the hub's client, which has asked again by itself, into those of files."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist, or this token may not see it") from error
    except Exception as error:  # of the client, of its HTTP library
        code = getattr(getattr(error, "response", None), "status_code", None)
        kinds = {401: PermissionError, 403: PermissionError, 404: FileNotFoundError}
        raise kinds.get(int(code or 0), OSError)(f"{path}: {str(error).strip().splitlines()[0]}") from error

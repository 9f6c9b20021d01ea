"""Reads, writes and lists objects; a write can ask for the state that it expects.

Errors are those of ``clients.translated``.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from model_bundle.base.objects.clients import ConditionError, UnsupportedError, located, root_of, translated
from model_bundle.errors import UsageError

# Keys of one request for deletion, at most, and of a page of a listing.
_KEYS_AT_ONCE = 1000


class Entry(NamedTuple):
    """A file of a listing: its path, size in bytes, and time of writing in seconds since the epoch."""

    path: str
    num_bytes: int
    written_at: float


def size_of(path: str) -> int | None:
    """Returns an object's size in bytes; None if it does not exist."""
    store, key = located(path)
    try:
        with translated(path):
            return int(store.head(key)["size"])
    except FileNotFoundError:
        return None


def read(path: str) -> tuple[bytes, dict[str, str]] | None:
    """Reads an object and its version; None if it does not exist."""
    store, key = located(path)
    try:
        with translated(path):
            found = store.get(key)
            return found.bytes().to_bytes(), _version(found.meta)
    except FileNotFoundError:
        return None


def create(path: str, data: bytes) -> bool:
    """Creates an object; False if it exists, which may be by this call, if it had to be repeated."""
    return _put(path, data, "create")


def replace(path: str, data: bytes, version: dict[str, str] | None = None) -> bool:
    """Replaces an object at once; False if ``version`` is given and another one is there."""
    return _put(path, data, "overwrite" if version is None else version)


def update(path: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    """Replaces an object by what is made of its content; False if another writer came between."""
    found = read(path)
    new = change(None if found is None else found[0])
    if new is None:
        return True
    return create(path, new) if found is None else replace(path, new, found[1])


def copy(source: str, target: str) -> None:
    """Copies an object within its bucket, on the storage's side."""
    store, key = located(source)
    with translated(source):
        store.copy(key, located(target)[1])


def list_prefix(prefix: str) -> list[Entry]:
    """Lists the objects whose path begins with a prefix, which may end within a name.

    Empty objects that stand for folders are left out.
    """
    if "/" not in prefix.partition("://")[2]:
        raise UsageError(f"{prefix}: write the whole name of the bucket or container, without wildcards.")
    folder, _, stem = prefix.rpartition("/")
    if not stem:
        return _below(folder)
    files, folders = list_folder(folder)
    found = [file for file in files if file.path.startswith(prefix)]
    for path in folders:
        if path.startswith(prefix):
            found += _below(path)
    return found


def list_folder(folder: str) -> tuple[list[Entry], list[str]]:
    """Returns the objects directly in a folder, and the paths of the folders in it."""
    store, key = located(folder)
    with translated(folder):
        found = store.list_with_delimiter(key or None)
    folders = found["common_prefixes"]
    root = root_of(folder)
    return _entries(root, found["objects"], {key, *folders}), [f"{root}/{name}" for name in folders]


def delete(path: str) -> None:
    """Removes an object if it exists."""
    store, key = located(path)
    with contextlib.suppress(FileNotFoundError), translated(path):
        store.delete(key)


def delete_folder(path: str) -> None:
    """Removes all objects below a folder."""
    found = _below(path)
    for start in range(0, len(found), _KEYS_AT_ONCE):
        paths = [entry.path for entry in found[start : start + _KEYS_AT_ONCE]]
        try:
            with translated(path):
                located(path)[0].delete([located(name)[1] for name in paths])
        except FileNotFoundError:  # somebody else deletes them, too
            for name in paths:
                delete(name)


def check_conditions(folder: str) -> None:
    """Tries on an object of its own whether the storage writes only in the expected state.

    Raises:
        UsageError: it does not, so that two writers could both succeed.
        OSError: the folder cannot be written.
    """
    path = f"{folder}/probe-{uuid.uuid4().hex}"
    fault = None
    try:
        create(path, b"1")
        if create(path, b"2"):
            fault = "created an object that was there already (If-None-Match)"
        elif (found := read(path)) is not None:
            replace(path, b"3", found[1])
            is_old_refused = not replace(path, b"4", found[1])
            if not is_old_refused or read(path) == found:
                fault = "does not compare versions (If-Match)"
    except UnsupportedError as error:
        fault = f"refuses conditional writes: {error}"
    finally:
        with contextlib.suppress(OSError):
            delete(path)
    if fault is not None:
        raise UsageError(
            f"{root_of(folder)} cannot hold runs. Two attempts at a run are told apart by a file that only "
            f"one of them can create, but this storage {fault}. Update it, or write to another one."
        )


def _put(path: str, data: bytes, mode: Any) -> bool:
    store, key = located(path)
    try:
        with translated(path):
            store.put(key, data, mode=mode, use_multipart=False)
    except ConditionError:
        return False
    return True


def _version(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}


def _below(folder: str) -> list[Entry]:
    store, key = located(folder)
    with translated(folder):
        found = [meta for page in store.list(key or None, chunk_size=_KEYS_AT_ONCE) for meta in page]
    return _entries(root_of(folder), found, {key, *_folders(meta["path"] for meta in found)})


def _folders(keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        while "/" in key:
            key = key.rpartition("/")[0]
            yield key


def _entries(root: str, found: Iterable[Any], folders: set[str]) -> list[Entry]:
    """Returns the files of a listing: the client takes the slash from the keys that stand for folders."""
    return [
        Entry(f"{root}/{meta['path']}", meta["size"], meta["last_modified"].timestamp())
        for meta in found
        if meta["size"] or meta["path"] not in folders
    ]

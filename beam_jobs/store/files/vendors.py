"""Amazon S3 and Azure Blob Storage, see ``model_bundle.base.objects``."""

from __future__ import annotations

from model_bundle.base.objects import store, streams

size_of, list_prefix = store.size_of, store.list_prefix
create, replace, update = store.create, store.replace, store.update
delete, delete_folder = store.delete, store.delete_folder
open_file, open_new = streams.open_reader, streams.ObjectWriter
check_conditions = store.check_conditions


def read(path: str) -> bytes | None:
    """Reads a small object; None if it does not exist."""
    found = store.read(path)
    return None if found is None else found[0]


def list_files(folder: str) -> dict[str, int]:
    """Returns the objects directly in a folder and their sizes in bytes."""
    return {entry.path: entry.num_bytes for entry in store.list_folder(folder)[0]}


def list_below(root: str, *parts: str) -> list[str]:
    """Returns the names of the folders directly in ``root`` that contain the object ``parts``."""
    folders = store.list_folder(root)[1]
    return [path.rpartition("/")[2] for path in folders if size_of("/".join([path, *parts])) is not None]


def move(source: str, target: str) -> None:
    """Copies an object and removes the source once the copy can be read to its end.

    Raises:
        FileNotFoundError: there is no source any more.
    """
    store.copy(source, target)
    with open_file(target) as stream:  # Azure may still be copying, and the end comes last
        stream.seek(-1, 2)
        stream.read()
    delete(source)

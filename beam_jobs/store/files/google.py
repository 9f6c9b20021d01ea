"""Google Cloud Storage: through Beam, and through Google's client for writes in an expected state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystem import CompressionTypes as Compression
from apache_beam.io.filesystems import FileSystems

from beam_jobs.store.files import beam
from beam_jobs.store.files.beam import literal

_GS = "gs://"

size_of, list_prefix = beam.size_of, beam.list_prefix


def list_files(folder: str) -> dict[str, int]:
    """Returns the objects directly in a folder and their sizes in bytes."""
    found = FileSystems.match([f"{literal(folder)}/*"])[0].metadata_list
    return {item.path: int(item.size_in_bytes) for item in found}


def list_below(root: str, *parts: str) -> list[str]:
    """Returns the names of the folders directly in ``root`` that contain the object ``parts``."""
    pattern = "/".join([literal(root.rstrip("/")), "*", *parts])
    found = FileSystems.match([pattern])[0].metadata_list
    return [item.path.removeprefix(f"{root.rstrip('/')}/").split("/")[0] for item in found]


def read(path: str) -> bytes | None:
    """Reads a small object; None if it does not exist."""
    if not FileSystems.exists(path):
        return None
    with open_file(path) as stream:
        return bytes(stream.read())


def open_file(path: str) -> Any:
    """Opens an object for reading; the stream can seek.

    Raises:
        FileNotFoundError: it does not exist.
    """
    from google.api_core.exceptions import NotFound

    try:
        return beam.open_file(path)
    except NotFound as error:
        raise FileNotFoundError(f"{path} does not exist") from error


def open_new(path: str) -> Any:
    """Opens an object for writing; it appears when the stream is closed."""
    return FileSystems.create(path, compression_type=Compression.UNCOMPRESSED)


def create(path: str, data: bytes) -> bool:
    """Creates an object; False if it exists already."""
    from google.api_core.exceptions import PreconditionFailed

    try:
        _bucket(path).blob(_name(path)).upload_from_string(data, if_generation_match=0)
    except PreconditionFailed:
        return False
    return True


def replace(path: str, data: bytes) -> None:
    """Writes an object at once."""
    with open_new(path) as stream:
        stream.write(data)


def update(path: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    """Changes an object; False if another writer replaced it meanwhile."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    folder = _bucket(path)
    found = folder.get_blob(_name(path))
    generation = 0 if found is None else found.generation
    try:
        old = None if found is None else found.download_as_bytes(if_generation_match=generation)
        new = change(old)
        if new is not None:
            folder.blob(_name(path)).upload_from_string(new, if_generation_match=generation)
    except (NotFound, PreconditionFailed):
        return False
    return True


def move(source: str, target: str) -> None:
    """Copies an object and removes the source; does nothing if there is none any more."""
    try:
        FileSystems.rename([source], [target])
    except BeamIOError:
        if size_of(source) is not None:
            raise


def delete(path: str) -> None:
    """Removes an object if it exists."""
    FileSystems.delete([literal(path)])


def delete_folder(path: str) -> None:
    """Removes all objects below a folder."""
    FileSystems.delete([f"{path}/"])


def check_conditions(_: str) -> None:
    """Does nothing: every bucket compares generations."""


def _bucket(path: str) -> Any:
    from google.cloud import storage

    return storage.Client().bucket(path.removeprefix(_GS).partition("/")[0])


def _name(path: str) -> str:
    return path.removeprefix(_GS).partition("/")[2]

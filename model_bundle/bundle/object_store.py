"""The folder of a model bundle on Amazon S3 or Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_bundle.base.objects import store
from model_bundle.base.objects.clients import located, translated
from model_bundle.errors import BundleFormatError, SourceError

# One connection transfers some tens of MB per second; several in parallel transfer more.
_PIECE_BYTES = 32 << 20
_CONNECTIONS = 8


class ObjectStore:
    """See ``BundleStore``.

    Args:
        url: ``s3://bucket/folder``, ``az://container/folder`` or ``abfss://…``.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        with self._errors("read"):
            located(url)

    def read(self, name: str) -> bytes:
        """Reads a small object."""
        with self._errors("read"):
            found = store.read(self._path(name))
            if found is None:
                raise FileNotFoundError(f"{name} does not exist")
            return found[0]

    def size(self, name: str) -> int:
        """Returns an object's size in bytes."""
        with self._errors("read"):
            found = store.size_of(self._path(name))
            if found is None:
                raise FileNotFoundError(f"{name} does not exist")
            return found

    def sizes(self) -> dict[str, int]:
        """Returns the sizes in bytes of all objects that are there."""
        with self._errors("read"):
            found = store.list_prefix(self._path(""))
            return {entry.path.removeprefix(self._path("")): entry.num_bytes for entry in found}

    def download(self, sizes: dict[str, int], targets: dict[str, Path]) -> None:
        """Copies objects to local files, in parallel, large ones in pieces."""
        for name, target in targets.items():
            with target.open("wb") as stream:
                stream.truncate(sizes[name])
        pieces = [
            (self._path(name), target, start, min(start + _PIECE_BYTES, sizes[name]))
            for name, target in targets.items()
            for start in range(0, sizes[name], _PIECE_BYTES)
        ]
        self._in_parallel("read", lambda piece: _fetch(*piece), pieces)

    def upload(self, folder: Path, names: list[str]) -> None:
        """Copies local files, in parallel."""
        self._in_parallel("written", lambda name: _send(folder / name, self._path(name)), names)

    def close(self) -> None:
        """Does nothing: connections are shared and end with the process."""

    def _path(self, name: str) -> str:
        return f"{self._url}/{name}"

    def _in_parallel(self, verb: str, work: Callable[[Any], None], items: list[Any]) -> None:
        with self._errors(verb), ThreadPoolExecutor(_CONNECTIONS) as pool:
            for done in [pool.submit(work, item) for item in items]:
                done.result()

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise BundleFormatError(
                f"{self._url} is not a model bundle, or an incomplete one: {error}. "
                "Copy a bundle's folder there with all its files."
            ) from error
        except OSError as error:
            raise SourceError(
                f"{self._url} cannot be {verb}: {error}\n"
                "Check credentials and permissions, or copy the folder here and name it with --bundle DIR."
            ) from error


def _fetch(path: str, target: Path, start: int, end: int) -> None:
    """Writes a range of an object to the same place of a local file."""
    client, key = located(path)
    with translated(path):
        data = client.get_range(key, start=start, end=end)
    with target.open("r+b") as stream:
        stream.seek(start)
        stream.write(data)


def _send(source: Path, path: str) -> None:
    """Uploads a file, a large one in parts."""
    client, key = located(path)
    with translated(path):
        client.put(key, source)

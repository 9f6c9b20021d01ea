"""The folder of a model bundle on Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from model_bundle.errors import BundleFormatError, SourceError

# One connection transfers some tens of MB per second; several in parallel transfer more.
_PIECE_BYTES = 32 << 20
_T = TypeVar("_T")


class GoogleStore:
    """See ``BundleStore``.

    Args:
        url: ``gs://bucket/folder``.
    """

    def __init__(self, url: str) -> None:
        from google.cloud import storage

        name, _, folder = url.removeprefix("gs://").partition("/")
        if not name:
            raise BundleFormatError(f"{url} names no bucket; write gs://BUCKET/FOLDER.")
        self._url = url
        self._bucket: Any = self._call(lambda: storage.Client().bucket(name))
        self._prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""

    def read(self, name: str) -> bytes:
        """Reads a small object."""
        return bytes(self._call(lambda: self._blob(name).download_as_bytes()))

    def size(self, name: str) -> int:
        """Returns an object's size in bytes."""
        blob = self._blob(name)
        self._call(blob.reload)
        return int(blob.size)

    def sizes(self) -> dict[str, int]:
        """Returns the sizes in bytes of all objects that are there."""
        blobs = self._call(lambda: list(self._bucket.list_blobs(prefix=self._prefix)))
        return {blob.name.removeprefix(self._prefix): int(blob.size) for blob in blobs}

    def download(self, sizes: dict[str, int], targets: dict[str, Path]) -> None:
        """Copies objects to local files, in parallel, large ones in pieces."""
        from google.cloud.storage import transfer_manager

        threads = {"worker_type": transfer_manager.THREAD}
        small = [
            (self._blob(name), str(path)) for name, path in targets.items() if sizes[name] <= _PIECE_BYTES
        ]
        self._call(lambda: transfer_manager.download_many(small, raise_exception=True, **threads))
        download = transfer_manager.download_chunks_concurrently
        for name, path in targets.items():
            if sizes[name] > _PIECE_BYTES:
                blob = self._blob(name)
                self._call(partial(download, blob, str(path), chunk_size=_PIECE_BYTES, **threads))

    def upload(self, folder: Path, names: list[str]) -> None:
        """Copies local files, in parallel; the storage checks each by its md5."""
        from google.cloud.storage import transfer_manager

        pairs = [(str(folder / name), self._blob(name)) for name in names]
        self._call(
            lambda: transfer_manager.upload_many(
                pairs,
                worker_type=transfer_manager.THREAD,
                raise_exception=True,
                upload_kwargs={"checksum": "md5"},
            ),
            "written",
        )

    def close(self) -> None:
        """Ends connections."""
        self._bucket.client.close()

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(f"{self._prefix}{name}")

    def _call(self, function: Callable[[], _T], verb: Literal["read", "written"] = "read") -> _T:
        """Runs a call and translates its errors; the client has already retried."""
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            return function()
        except NotFound as error:
            raise BundleFormatError(
                f"{self._url} is not a model bundle, or an incomplete one: {error.message}. "
                "Copy a bundle's folder there with all its files."
            ) from error
        except (GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
            summary = str(error).strip().split("\n")[0]
            raise SourceError(
                f"{self._url} cannot be {verb}: {summary}\n"
                f"Log in (gcloud auth application-default login) and check your permissions, or copy "
                "the folder here and name it with --bundle DIR."
            ) from error

"""Fetches a model bundle from remote storage, once, into the cache under its digest."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Protocol

from model_bundle.base.cache import cache_dir, locked
from model_bundle.base.objects.clients import SCHEMES
from model_bundle.bundle.digest import check_files, is_inside, sha256_of
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest
from model_bundle.errors import BundleIntegrityError

STORE_SCHEMES = ("gs", *SCHEMES)
# For bundles of all storages: there was only one when it got its name.
_FOLDER = "gcs"
_ARRIVING = ".arriving"


class BundleStore(Protocol):
    """The folder of a bundle in remote storage; files go by their path in it.

    Raises (all calls):
        BundleFormatError: there is no such file.
        SourceError: the storage cannot be reached, or refuses.
    """

    def read(self, name: str) -> bytes:
        """Reads a small file."""

    def size(self, name: str) -> int:
        """Returns a file's size in bytes."""

    def sizes(self) -> dict[str, int]:
        """Returns the sizes in bytes of all files that are there."""

    def download(self, sizes: dict[str, int], targets: dict[str, Path]) -> None:
        """Copies files to local ones, in parallel, large ones in pieces; folders exist."""

    def upload(self, folder: Path, names: list[str]) -> None:
        """Copies files of a local folder, in parallel."""

    def close(self) -> None:
        """Ends connections."""


def is_remote(place: str) -> bool:
    """Whether a place is a URL of a storage that bundles can be in."""
    scheme, is_url, _ = place.partition("://")
    return bool(is_url) and scheme in STORE_SCHEMES


def open_store(url: str) -> BundleStore:
    """Returns the storage of a bundle.

    Raises:
        BundleFormatError: the URL lacks a bucket.
        SourceError: there are no credentials.
        MissingExtraError: a package is not installed.
    """
    if url.startswith("gs://"):
        from model_bundle.bundle.gcs import GoogleStore

        return GoogleStore(url)
    from model_bundle.bundle.object_store import ObjectStore

    return ObjectStore(url)


def fetch_bundle(url: str) -> Path:
    """Returns a local copy of the bundle at the URL of a folder, such as ``gs://bucket/folder``.

    Only ``bundle.json`` is read each time; the files it lists are copied unless the cache has that digest.

    Raises:
        BundleFormatError: there is no bundle at the URL.
        BundleIntegrityError: the stored files differ from those it lists.
        SourceError: the storage cannot be reached.
    """
    store = open_store(url)
    try:
        data = store.read(MANIFEST_NAME)
        BundleManifest.from_bytes(data, f"{url}/{MANIFEST_NAME}")  # rejects what is not a manifest
        digest = hashlib.sha256(data).hexdigest()
        place = cache_dir() / _FOLDER / digest
        if not place.is_dir():
            with locked(f"{_FOLDER}-{digest}") as cache:
                if not place.is_dir():  # else another process was first
                    copy = cache / _FOLDER / f".partial-{digest}"
                    _copy(url, store, data, copy)
                    copy.replace(place)
        return place
    finally:
        store.close()


def _copy(url: str, store: BundleStore, data: bytes, copy: Path) -> None:
    """Copies a bundle's files and checks them; ``data`` is its ``bundle.json``.

    Complete files of an interrupted earlier copy are kept. The caller holds the lock of ``copy``.
    """
    manifest = BundleManifest.from_bytes(data, url)
    sizes = {}
    for file in manifest.files:
        if not is_inside(file.path):
            raise BundleIntegrityError(
                f"{url}: its manifest lists {file.path!r}, which is outside the bundle."
            )
        target = copy / file.path
        if target.is_file() and target.stat().st_size == file.size and sha256_of(target) == file.sha256:
            continue
        size = store.size(file.path)
        if size != file.size:
            raise BundleIntegrityError(
                f"{url}: {file.path} has {size} bytes, listed {file.size}. Nothing was copied; put the "
                "bundle there again."
            )
        sizes[file.path] = size
    try:
        _download(store, sizes, copy)
        (copy / MANIFEST_NAME).write_bytes(data)
        check_files(copy, manifest)
    except BundleIntegrityError:
        shutil.rmtree(copy)
        raise


def _download(store: BundleStore, sizes: dict[str, int], copy: Path) -> None:
    """Downloads files; each gets its final name when it is complete."""
    arriving = {}
    for name in sizes:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        arriving[name] = target.with_name(f"{target.name}{_ARRIVING}")
    try:
        store.download(sizes, arriving)
    finally:  # what was complete before an error is not copied again
        for name, path in arriving.items():
            if path.is_file() and path.stat().st_size == sizes[name]:
                path.replace(copy / name)

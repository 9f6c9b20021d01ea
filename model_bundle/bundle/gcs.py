"""Fetches a model bundle from Google Cloud Storage, once, into the cache under its digest."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from model_bundle.base.cache import cache_dir, locked
from model_bundle.bundle.digest import check_files, is_inside, sha256_of
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest
from model_bundle.bundle.specs import FileSpec
from model_bundle.errors import BundleFormatError, BundleIntegrityError, SourceError

_FOLDER = "gcs"
_ARRIVING = ".arriving"
# One connection transfers some tens of MB per second; several in parallel transfer more.
_PIECE_BYTES = 32 << 20


def fetch_gcs_bundle(url: str) -> Path:
    """Returns a local copy of the bundle at ``gs://bucket/folder``.

    Only ``bundle.json`` is read each time; the files it lists are copied unless the cache has that digest.

    Raises:
        BundleFormatError: there is no bundle at the URL.
        BundleIntegrityError: the stored files differ from those it lists.
        SourceError: the storage cannot be reached.
    """
    bucket, prefix = split_url(url)
    try:
        return _fetch(url, bucket, prefix)
    finally:
        bucket.client.close()


def _fetch(url: str, bucket: Any, prefix: str) -> Path:
    data = _call(url, lambda: bucket.blob(f"{prefix}{MANIFEST_NAME}").download_as_bytes())
    BundleManifest.from_bytes(data, f"{url}/{MANIFEST_NAME}")  # rejects what is not a manifest
    digest = hashlib.sha256(data).hexdigest()
    place = cache_dir() / _FOLDER / digest
    if not place.is_dir():
        with locked(f"{_FOLDER}-{digest}") as cache:
            if not place.is_dir():  # else another process was first
                _copy(url, bucket, prefix, data, cache / _FOLDER / f".partial-{digest}")
    return place


def split_url(url: str) -> tuple[Any, str]:
    """Returns the bucket and the prefix of every object of the bundle.

    Raises:
        BundleFormatError: the URL lacks a bucket.
        SourceError: there are no credentials.
    """
    from google.cloud import storage

    name, _, folder = url.removeprefix("gs://").partition("/")
    if not name:
        raise BundleFormatError(f"{url} names no bucket; write gs://BUCKET/FOLDER.")
    bucket = call_storage(url, lambda: storage.Client().bucket(name), "read")
    return bucket, f"{folder.strip('/')}/" if folder.strip("/") else ""


def _copy(url: str, bucket: Any, prefix: str, data: bytes, copy: Path) -> None:
    """Copies a bundle's files, checks them and publishes them with one rename. ``data``: its ``bundle.json``.

    Complete files of an interrupted earlier copy are kept. The caller holds the lock of ``copy``.
    """
    manifest = BundleManifest.from_bytes(data, url)
    pairs = []
    for file in manifest.files:
        if not is_inside(file.path):
            raise BundleIntegrityError(
                f"{url}: its manifest lists {file.path!r}, which is outside the bundle."
            )
        target = copy / file.path
        if target.is_file() and target.stat().st_size == file.size and sha256_of(target) == file.sha256:
            continue
        blob = bucket.blob(f"{prefix}{file.path}")
        _check_size(url, blob, file)
        pairs.append((blob, target))
    try:
        _download(url, pairs)
        (copy / MANIFEST_NAME).write_bytes(data)
        check_files(copy, manifest)
    except BundleIntegrityError:
        shutil.rmtree(copy)
        raise
    copy.replace(copy.parent / copy.name.removeprefix(".partial-"))


def _download(url: str, pairs: list[tuple[Any, Path]]) -> None:
    """Downloads objects in parallel, large ones in pieces; each gets its final name when it is complete."""
    for _, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
    arriving = {target: target.with_name(f"{target.name}{_ARRIVING}") for _, target in pairs}
    try:
        _download_to(url, [(blob, str(arriving[target])) for blob, target in pairs])
    finally:  # what was complete before an error is not copied again
        for blob, target in pairs:
            path = arriving[target]
            if path.is_file() and path.stat().st_size == blob.size:
                path.replace(target)


def _download_to(url: str, pairs: list[tuple[Any, str]]) -> None:
    from google.cloud.storage import transfer_manager

    threads = {"worker_type": transfer_manager.THREAD}
    small = [(blob, path) for blob, path in pairs if blob.size <= _PIECE_BYTES]
    _call(url, lambda: transfer_manager.download_many(small, raise_exception=True, **threads))
    download = transfer_manager.download_chunks_concurrently
    for blob, path in pairs:
        if blob.size > _PIECE_BYTES:
            _call(url, partial(download, blob, path, chunk_size=_PIECE_BYTES, **threads))


def _check_size(url: str, blob: Any, file: FileSpec) -> None:
    """Rejects an object of the wrong size before any of it is copied."""
    _call(url, blob.reload)
    if blob.size != file.size:
        raise BundleIntegrityError(
            f"{url}: {file.path} has {blob.size} bytes, listed {file.size}. Nothing was copied; put the "
            "bundle there again."
        )


def _call(url: str, function: Any) -> Any:
    return call_storage(url, function, "read")


def call_storage(url: str, function: Any, verb: str) -> Any:
    """Runs a storage call and translates its errors; the client has already retried.

    Args:
        url: of the bundle.
        function: the call.
        verb: for the message if it fails: ``read`` or ``written``.

    Raises:
        BundleFormatError: there is no such object.
        SourceError: any other failure of the storage, the network or the credentials.
    """
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        return function()
    except NotFound as error:
        raise BundleFormatError(
            f"{url} is not a model bundle, or an incomplete one: {error.message}. "
            "Copy a bundle's folder there with all its files."
        ) from error
    except (GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
        summary = str(error).strip().split("\n")[0]
        raise SourceError(
            f"{url} cannot be {verb}: {summary}\n"
            f"Log in (gcloud auth application-default login) and check your permissions, or copy "
            "the folder here and name it with --bundle DIR."
        ) from error

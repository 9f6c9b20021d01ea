"""A model bundle on Google Cloud Storage, copied once into the cache under its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from model_bundle.cache import cache_dir, clear_partial, locked, staging
from model_bundle.digest import check_files, is_inside
from model_bundle.errors import BundleFormatError, BundleIntegrityError, SourceError
from model_bundle.manifest import MANIFEST_NAME, BundleManifest, FileSpec

_FOLDER = "gcs"


def fetch_gcs_bundle(url: str) -> Path:
    """Gives a local copy of the bundle at ``gs://bucket/folder``.

    Only ``bundle.json`` is read each time; the files it lists are copied where no copy with its digest is.

    Raises:
        BundleFormatError: there is no bundle there.
        BundleIntegrityError: the files there are not those it lists.
        SourceError: the storage cannot be reached.
    """
    bucket, prefix = _split(url)
    data = _call(url, lambda: bucket.blob(f"{prefix}{MANIFEST_NAME}").download_as_bytes())
    BundleManifest.from_bytes(data, f"{url}/{MANIFEST_NAME}")  # refuses what is no manifest
    place = cache_dir() / _FOLDER / hashlib.sha256(data).hexdigest()
    if not place.is_dir():
        with locked(_FOLDER) as cache:
            clear_partial(cache / _FOLDER)
            if not place.is_dir():  # else another process was first
                _copy(url, bucket, prefix, data, place)
    return place


def _split(url: str) -> tuple[Any, str]:
    """Gives the bucket and the prefix of every object of the bundle."""
    from google.cloud import storage

    name, _, folder = url.removeprefix("gs://").partition("/")
    if not name:
        raise BundleFormatError(f"{url} names no bucket; write gs://BUCKET/FOLDER.")
    bucket = _call(url, lambda: storage.Client().bucket(name))
    return bucket, f"{folder.strip('/')}/" if folder.strip("/") else ""


def _copy(url: str, bucket: Any, prefix: str, data: bytes, place: Path) -> None:
    """Copies a bundle's files, checks them and shows them at once. ``data`` is its ``bundle.json``."""
    from google.cloud.storage import transfer_manager

    manifest = BundleManifest.from_bytes(data, url)
    with staging(place.parent) as folder:
        copy = folder / "bundle"
        pairs = []
        for file in manifest.files:
            target = copy / _inside(file.path, url)
            target.parent.mkdir(parents=True, exist_ok=True)
            blob = bucket.blob(f"{prefix}{file.path}")
            _check_size(url, blob, file)
            pairs.append((blob, str(target)))
        _call(
            url,
            lambda: transfer_manager.download_many(
                pairs, worker_type=transfer_manager.THREAD, raise_exception=True
            ),
        )
        (copy / MANIFEST_NAME).write_bytes(data)
        check_files(copy, manifest)
        copy.replace(place)


def _check_size(url: str, blob: Any, file: FileSpec) -> None:
    """Refuses an object of another size before any of it is copied."""
    _call(url, blob.reload)
    if blob.size != file.size:
        raise BundleIntegrityError(
            f"{url}: {file.path} has {blob.size} bytes, listed {file.size}. Nothing was copied; put the "
            "bundle there again."
        )


def _inside(path: str, url: str) -> str:
    """Refuses a path that leads out of the bundle's folder."""
    if not is_inside(path):
        raise BundleIntegrityError(f"{url}: its manifest lists {path!r}, which is outside the bundle.")
    return path


def _call(url: str, function: Any) -> Any:
    """Runs a call to the storage and words its failure."""
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        return function()
    except NotFound as error:
        raise BundleFormatError(
            f"{url} is not a model bundle, or not a whole one: {error.message}. "
            "Copy a bundle's folder there with all its files."
        ) from error
    except (GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
        summary = str(error).strip().split("\n")[0]
        raise SourceError(
            f"{url} cannot be read: {summary}\n"
            "Log in (gcloud auth application-default login) and check that you may read there, or copy the "
            "folder here and name it with --bundle DIR."
        ) from error

"""Uploads a bundle to Google Cloud Storage under its digest, and copies a bundle into a new folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from model_bundle.base.cache import staging
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.gcs import call_storage, split_url
from model_bundle.bundle.manifest import MANIFEST_NAME
from model_bundle.errors import SourceError


def push_bundle(place: str, store: str) -> tuple[str, int]:
    """Uploads a bundle to ``store/DIGEST``; files that are already there are not sent again.

    ``bundle.json`` is sent last: without it the folder is not a bundle.

    Args:
        place: a folder, URL or name, as for ``ModelBundle.open``.
        store: ``gs://bucket/folder``.

    Returns:
        The bundle's URL, without a pin, and the number of files sent.

    Raises:
        ModelBundleError: the bundle is damaged, or the upload fails.
    """
    if not store.startswith("gs://"):
        raise SourceError(f"{store} is not storage that workers share; write gs://BUCKET/FOLDER.")
    bundle = ModelBundle.open(place)
    url = f"{store.rstrip('/')}/{bundle.digest}"
    bucket, prefix = split_url(url)
    blobs = call_storage(url, lambda: list(bucket.list_blobs(prefix=prefix)), "read")
    there = {blob.name.removeprefix(prefix): int(blob.size) for blob in blobs}
    files = [file.path for file in bundle.manifest.files if there.get(file.path) != file.size]
    _send(url, bucket, prefix, bundle.path, files)
    is_new = MANIFEST_NAME not in there
    if is_new or files:
        _send(url, bucket, prefix, bundle.path, [MANIFEST_NAME])
    return url, len(files) + (1 if is_new or files else 0)


def _send(url: str, bucket: Any, prefix: str, folder: Path, files: list[str]) -> None:
    """Uploads files in parallel; the storage checks each by its md5."""
    from google.cloud.storage import transfer_manager

    if not files:
        return
    pairs = [(str(folder / path), bucket.blob(f"{prefix}{path}")) for path in files]
    call_storage(
        url,
        lambda: transfer_manager.upload_many(
            pairs,
            worker_type=transfer_manager.THREAD,
            raise_exception=True,
            upload_kwargs={"checksum": "md5"},
        ),
        "written",
    )


def pull_bundle(place: str, folder: Path) -> ModelBundle:
    """Copies a bundle into a new folder, atomically, and opens it there.

    Args:
        place: a folder, URL or name, as for ``ModelBundle.open``.
        folder: must not exist.

    Raises:
        ModelBundleError: there is no such bundle, it is damaged, or the folder exists.
    """
    if folder.exists():
        raise SourceError(f"{folder} already exists and will not be overwritten. Choose a new folder.")
    found = ModelBundle.open(place)
    with staging(folder.absolute().parent) as work:
        shutil.copytree(found.path, work / "bundle")
        (work / "bundle").replace(folder)
    return ModelBundle.open(f"{folder}@sha256:{found.digest}")

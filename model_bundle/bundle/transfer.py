"""Uploads a bundle to remote storage under its digest, and copies a bundle into a new folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from model_bundle.base.cache import staging
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.fetch import STORE_SCHEMES, is_remote, open_store
from model_bundle.bundle.manifest import MANIFEST_NAME
from model_bundle.errors import SourceError


def push_bundle(place: str, store: str) -> tuple[str, int]:
    """Uploads a bundle to ``store/DIGEST``; files that are already there are not sent again.

    ``bundle.json`` is sent last: without it the folder is not a bundle.

    Args:
        place: a folder, URL or name, as for ``ModelBundle.open``.
        store: the URL of a folder, such as ``gs://bucket/folder``.

    Returns:
        The bundle's URL, without a pin, and the number of files sent.

    Raises:
        ModelBundleError: the bundle is damaged, or the upload fails.
    """
    if not is_remote(store):
        known = ", ".join(f"{scheme}://" for scheme in STORE_SCHEMES)
        raise SourceError(f"{store} is not storage that workers share; write a URL with one of {known}.")
    bundle = ModelBundle.open(place, allow_recorded=True)  # nothing is loaded
    url = f"{store.rstrip('/')}/{bundle.digest}"
    target = open_store(url)
    try:
        there = target.sizes()
        names = [file.path for file in bundle.manifest.files if there.get(file.path) != file.size]
        if names:
            target.upload(bundle.path, names)
        if names or MANIFEST_NAME not in there:
            target.upload(bundle.path, [MANIFEST_NAME])
            names.append(MANIFEST_NAME)
        return url, len(names)
    finally:
        target.close()


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
    found = ModelBundle.open(place, allow_recorded=True)  # nothing is loaded
    with staging(folder.absolute().parent) as work:
        shutil.copytree(found.path, work / "bundle")
        (work / "bundle").replace(folder)
    return ModelBundle.open(f"{folder}@sha256:{found.digest}")

"""A bundle from elsewhere into a folder of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from model_bundle.base.cache import staging
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import SourceError


def pull_bundle(place: str, folder: Path) -> ModelBundle:
    """Copies a bundle into a new folder, whole or not at all, and opens it there.

    Args:
        place: a folder, URL or name, as for ``ModelBundle.open``.
        folder: must not exist.

    Raises:
        ModelBundleError: there is no such bundle, it is damaged, or the folder exists.
    """
    if folder.exists():
        raise SourceError(f"{folder} exists. Name a folder that does not; nothing is written over.")
    found = ModelBundle.open(place, allow_recorded=True)  # nothing is loaded
    with staging(folder.absolute().parent) as work:
        shutil.copytree(found.path, work / "bundle")
        (work / "bundle").replace(folder)
    return ModelBundle.open(f"{folder}@sha256:{found.digest}")

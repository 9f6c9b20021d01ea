"""Resolves a folder, URL or known name to a local bundle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from model_bundle.bundle.embedded import DIGESTS, find_embedded
from model_bundle.bundle.fetch import fetch_bundle, is_remote
from model_bundle.bundle.manifest import MANIFEST_NAME
from model_bundle.bundle.minilm import NAME as MINILM
from model_bundle.bundle.minilm import find_minilm
from model_bundle.errors import BundleFormatError

# Used where no bundle is named: it ships with the package and needs no network.
DEFAULT_BUNDLE = "bert-mini"

NAMED_BUNDLES: dict[str, Callable[[], Path]] = {
    **{name: partial(find_embedded, name) for name in DIGESTS},
    MINILM: find_minilm,
}


def find_bundle(place: str) -> Path:
    """Returns the local folder of a bundle, fetching it if it is remote. Its files are not checked here.

    Args:
        place: a folder, a ``file://`` URL or one of remote storage, or a known name. A folder that contains a
            bundle takes precedence over a name.

    Raises:
        BundleFormatError: there is no such folder and no such name.
        SourceError: it cannot be fetched.
    """
    if is_remote(place):
        return fetch_bundle(place)
    path = _local(place)
    if place in NAMED_BUNDLES and not (path / MANIFEST_NAME).is_file():
        return NAMED_BUNDLES[place]()
    if path.is_dir():
        return path
    raise BundleFormatError(
        f"{place} is neither a local folder nor a known model bundle. Known: "
        f"{', '.join(sorted(NAMED_BUNDLES))}. Build one with: python -m model_bundle build"
    )


def _local(place: str) -> Path:
    if not place.startswith("file://"):
        return Path(place).expanduser()
    url = urlsplit(place)
    if url.netloc not in ("", "localhost"):
        raise BundleFormatError(f"{place} is on another machine; write file:///FOLDER for a local folder.")
    return Path(unquote(url.path))

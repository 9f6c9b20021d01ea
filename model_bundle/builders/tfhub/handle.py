"""Fetches a TF-Hub module by its handle, from any storage and packaging, to a local folder."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from model_bundle.builders.tfhub.archive import ENDINGS, unpack
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class HubModule:
    """A module in a local folder.

    ``location`` is where it came from, without secrets; ``remedy`` says what to do if its files are
    damaged or missing.
    """

    path: Path
    location: str
    name: str
    remedy: str


@contextmanager
def fetched_module(handle: str) -> Iterator[HubModule]:
    """Finds or fetches a module; unpacked or copied files are removed when the context ends.

    Args:
        handle: a folder or an archive of one (a path, file://, gs:// or another scheme that TensorFlow
            reads), or the http(s):// URL of a module, which tensorflow_hub caches in ``TFHUB_CACHE_DIR``.

    Raises:
        SourceError: there is no such module, it cannot be reached, or it is not a SavedModel.
    """
    with tempfile.TemporaryDirectory(prefix="hub-module-") as scratch:
        yield _fetch(handle, Path(scratch))


def import_hub() -> Any:
    """Imports tensorflow_hub, without the warnings of its imports (pkg_resources, tf_keras)."""
    import_tensorflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_hub

    return tensorflow_hub


def _fetch(handle: str, scratch: Path) -> HubModule:
    if re.match(r"https?://", handle):
        return _from_web(handle, scratch)
    place = handle.removeprefix("file://")
    path = _copied(place, scratch) if "://" in place else Path(place).expanduser()
    if not path.exists():
        raise SourceError(f"{handle} is not an existing folder or archive.{fetch_hint(handle)}")
    unpacked = path.is_file()
    root = _saved_model_folder(unpack(path, scratch / "unpacked") if unpacked else path, handle, unpacked)
    location = path.resolve().name if "://" not in place else place
    name = path.resolve().name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return HubModule(root, location, name, "Download or copy the module again.")


def _from_web(handle: str, scratch: Path) -> HubModule:
    """Lets tensorflow_hub find the module in its cache, or download it."""
    folder = cache_folder(handle)
    hub = import_hub()
    try:
        place: str = hub.resolve(handle)
    # The errors of urllib, tarfile and TensorFlow have no common base.
    except Exception as error:
        raise SourceError(
            f"{_public(handle)} did not resolve to a module: {_summary(error)}\nIt is not in the cache of "
            f"tensorflow_hub either; looked for: {folder}{fetch_hint(handle)}"
        ) from error
    remedy = f"Delete {place} and {place}.descriptor.txt, and build again to download the module anew."
    path = _copied(place, scratch) if "://" in place else Path(place)
    if not is_saved_model(path):
        raise SourceError(
            f"The cache folder {place} of {_public(handle)} is incomplete: it contains neither "
            f"{' nor '.join(SAVED_MODEL_FILES)}, but {_listing(path)}. {remedy}"
        )
    parts = urlsplit(handle)
    return HubModule(path, _public(handle), parts.path.strip("/").replace("/", "-") or parts.netloc, remedy)


def _copied(place: str, scratch: Path) -> Path:
    """Copies a folder or archive from storage that only TensorFlow can read."""
    tf = import_tensorflow()
    target = scratch / "copied" / place.rstrip("/").rpartition("/")[2]
    try:
        if tf.io.gfile.isdir(place):
            _copy_folder(tf, place.rstrip("/"), target)
        elif tf.io.gfile.exists(place):
            target.parent.mkdir(parents=True)
            tf.io.gfile.copy(place, str(target))
    except tf.errors.OpError as error:
        raise SourceError(
            f"{place} cannot be read: {_summary(error)}\nCheck the name and your permissions "
            "(gcloud auth application-default login), or copy it here and name the copy."
        ) from error
    return target


def _copy_folder(tf: Any, place: str, target: Path) -> None:
    for folder, _, names in tf.io.gfile.walk(place):
        here = target.joinpath(*Path(folder.rstrip("/").removeprefix(place).strip("/")).parts)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            tf.io.gfile.copy(f"{folder.rstrip('/')}/{name}", str(here / name))


def _saved_model_folder(path: Path, handle: str, unpacked: bool) -> Path:
    """Returns the folder that contains saved_model.pb; in an archive it may be a subfolder."""
    if is_saved_model(path):
        return path
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and is_saved_model(folder)]
    if unpacked and len(below) == 1:
        return below[0]
    hint = f" Name one of: {', '.join(map(str, below))}." if below and not unpacked else ""
    raise SourceError(
        f"{handle} contains no SavedModel: expected {' or '.join(SAVED_MODEL_FILES)}, "
        f"found {_listing(path)}.{hint}"
    )


def is_saved_model(path: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return any((path / name).is_file() for name in SAVED_MODEL_FILES)


def _listing(path: Path) -> str:
    names = [entry.name for entry in sorted(path.iterdir())]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"


def _public(handle: str) -> str:
    """Removes possible secrets: a user, and the query of a signed URL."""
    parts = urlsplit(handle)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


_KAGGLE_URL = re.compile(
    r"https?://(?:www\.)?kaggle\.com/models/(?P<owner>[\w.-]+)/(?P<model>[\w.-]+)"
    r"(?:/frameworks)?/(?P<framework>[\w.-]+)(?:/variations)?/(?P<variation>[\w.-]+)"
    r"(?:(?:/versions)?/(?P<version>\d+))?/?(?:[?#].*)?"
)
_KAGGLE_HANDLE = re.compile(r"[\w-]+/[\w.-]+/(?i:tensorflow[12])/[\w.-]+(/\d+)?")
_TFHUB_URL = re.compile(r"https?://(?:www\.)?tfhub\.dev/.+")


def cache_folder(handle: str) -> str:
    """Returns the folder in which tensorflow_hub caches a web handle.

    Source: ``_module_dir`` in compressed_module_resolver.py and ``tfhub_cache_dir`` in resolver.py of
    tensorflow_hub 0.16.
    """
    root = os.getenv("TFHUB_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "tfhub_modules")
    # A name, not a protection: the library uses this hash.
    return f"{root.rstrip('/')}/{hashlib.sha1(handle.encode('utf-8'), usedforsecurity=False).hexdigest()}"


def fetch_hint(handle: str) -> str:
    """Returns lines that explain how else to get a module; empty if the handle is of an unknown kind.

    >>> print(fetch_hint("https://www.kaggle.com/models/google/elmo/tensorFlow1/elmo/3").splitlines()[2])
      python -c 'import kagglehub; print(kagglehub.model_download("google/elmo/tensorFlow1/elmo/3"))'
    """
    kaggle = _kaggle_handle(handle)
    if kaggle is None and not re.match(r"https?://", handle):
        return ""
    if kaggle is None and not _TFHUB_URL.fullmatch(handle):
        return (
            "\nCheck the URL and the network, or download the module elsewhere, copy it here, and run\n"
            "  python -m model_bundle build hub DIR --output …"
        )
    return (
        "\nThe modules of TF-Hub have moved to Kaggle. With network access,\n"
        f"  python -c 'import kagglehub; print(kagglehub.model_download(\"{kaggle or _TFHUB_PATTERN}\"))'\n"
        "prints the folder it created (pip install kagglehub). Copy it here, and run\n"
        "  python -m model_bundle build hub DIR --output …"
    )


# Kaggle's name for a module of tfhub.dev cannot be derived from its URL.
_TFHUB_PATTERN = "OWNER/MODEL/tensorFlow1 or tensorFlow2/VARIATION/VERSION"


def _kaggle_handle(handle: str) -> str | None:
    """Returns kagglehub's name for a module given by Kaggle's handle or URL; None for other handles."""
    if _KAGGLE_HANDLE.fullmatch(handle):
        return handle
    match = _KAGGLE_URL.fullmatch(handle)
    if match is None:
        return None
    framework = re.sub(r"^tensorflow(?=\d)", "tensorFlow", match["framework"], flags=re.IGNORECASE)
    return "/".join(
        filter(None, (match["owner"], match["model"], framework, match["variation"], match["version"]))
    )

"""A TF-Hub module by its handle: wherever it lies and however it is packed, it ends up in a folder here."""

from __future__ import annotations

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
from model_bundle.builders.tfhub.cache import cache_folder, how_to_fetch
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class HubModule:
    """A module in a local folder.

    ``location`` is what to call where it came from, without secrets; ``remedy`` says what to do when files of
    it are damaged or missing.
    """

    path: Path
    location: str
    name: str
    remedy: str


@contextmanager
def fetched_module(handle: str) -> Iterator[HubModule]:
    """Finds a module, or fetches it; what was unpacked or copied for it goes when the context ends.

    Args:
        handle: a folder or an archive of one (a path, file://, gs:// or another scheme that TensorFlow
            reads), or http(s):// of a module, which tensorflow_hub keeps in ``TFHUB_CACHE_DIR``.

    Raises:
        SourceError: there is no such module, or it cannot be reached, or is no SavedModel.
    """
    with tempfile.TemporaryDirectory(prefix="hub-module-") as scratch:
        yield _fetch(handle, Path(scratch))


def import_hub() -> Any:
    """Imports tensorflow_hub, without the warnings of what it imports (pkg_resources, tf_keras)."""
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
        raise SourceError(f"{handle}: there is no such folder or archive.{how_to_fetch(handle)}")
    unpacked = path.is_file()
    root = _saved_model_folder(unpack(path, scratch / "unpacked") if unpacked else path, handle, unpacked)
    location = path.resolve().name if "://" not in place else place
    name = path.resolve().name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return HubModule(root, location, name, "Download or copy the module again.")


def _from_web(handle: str, scratch: Path) -> HubModule:
    """Lets tensorflow_hub find the module in its cache, or fill it."""
    folder = cache_folder(handle)
    hub = import_hub()
    try:
        place: str = hub.resolve(handle)
    # urllib's, tarfile's and TensorFlow's errors, and plain ones, share no base.
    except Exception as error:
        raise SourceError(
            f"{_public(handle)} did not resolve to a module: {_summary(error)}\nNeither is it in the cache "
            f"of tensorflow_hub; looked for: {folder}{how_to_fetch(handle)}"
        ) from error
    remedy = f"Delete {place} and {place}.descriptor.txt, and build again: the module is fetched anew."
    path = _copied(place, scratch) if "://" in place else Path(place)
    if not is_saved_model(path):
        raise SourceError(
            f"The cache folder {place} of {_public(handle)} is half-filled: it contains neither "
            f"{' nor '.join(SAVED_MODEL_FILES)}, but {_listing(path)}. {remedy}"
        )
    parts = urlsplit(handle)
    return HubModule(path, _public(handle), parts.path.strip("/").replace("/", "-") or parts.netloc, remedy)


def _copied(place: str, scratch: Path) -> Path:
    """Copies a folder or archive from storage that only TensorFlow reads."""
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
            f"{place} cannot be read: {_summary(error)}\nCheck the name and your rights to it "
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
    """Returns the folder that holds saved_model.pb; in an archive it may be one folder down."""
    if is_saved_model(path):
        return path
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and is_saved_model(folder)]
    if unpacked and len(below) == 1:
        return below[0]
    hint = f" Name one of: {', '.join(map(str, below))}." if below and not unpacked else ""
    raise SourceError(
        f"{handle} holds no SavedModel: expected {' or '.join(SAVED_MODEL_FILES)}, "
        f"found {_listing(path)}.{hint}"
    )


def is_saved_model(path: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return any((path / name).is_file() for name in SAVED_MODEL_FILES)


def _listing(path: Path) -> str:
    names = [entry.name for entry in sorted(path.iterdir())]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"


def _public(handle: str) -> str:
    """Drops what may be a secret: a user, and the query of a signed URL."""
    parts = urlsplit(handle)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"

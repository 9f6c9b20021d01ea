"""Imports the user's classes and functions, and redirects TF-Hub handles; runs in the loading process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_bundle.builders.tfhub.handle import SAVED_MODEL_FILES, cache_folder, import_hub
from model_bundle.builders.tfhub.load import read_source
from model_bundle.bundle.graph_scan.scan import scan_saved_model
from model_bundle.errors import SourceError

_REMEDY = "Run the command where the module can be imported, or set PYTHONPATH."


def object_names(specs: Sequence[str]) -> tuple[str, ...]:
    """Returns the names under which a file refers to objects.

    >>> object_names(["layers:Mix", "embed=elmo:embed_texts"])
    ('Mix', 'embed')
    """
    return tuple(_split(spec)[0] for spec in specs)


def load_objects(specs: Sequence[str], flag: str) -> dict[str, Any]:
    """Imports objects by ``module:name``, ``NAME=module:name`` or ``NAME=module``.

    Raises:
        SourceError: an object cannot be imported.
    """
    return {name: load_object(place, flag) for name, place in map(_split, specs)}


def load_object(place: str, flag: str) -> Any:
    """Imports ``module:name``, or a module.

    Raises:
        SourceError: there is no such module or name.
    """
    module, _, name = place.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split(".") if name else ():
            value = getattr(value, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SourceError(f"{flag} {place}: {error}. {_REMEDY}") from error
    return value


def redirect_handles(folders: Mapping[str, str], allow_ops: Sequence[str] = ()) -> None:
    """Lets tensorflow_hub find modules by handle in folders or its cache, offline; all are scanned."""
    import_hub().registry.resolver.add_implementation(Redirect(folders, allow_ops))


class Redirect:
    """A resolver for tensorflow_hub. A query or final slash of a handle is ignored.

    Args:
        folders: by the handle of a module.
        allow_ops: operations that a module's graph may use although they reach beyond it.
    """

    def __init__(self, folders: Mapping[str, str], allow_ops: Sequence[str] = ()) -> None:
        self._folders = {_bare(handle): folder for handle, folder in folders.items()}
        self._allow_ops = allow_ops

    def is_supported(self, handle: str) -> bool:
        """Whether it handles this: every handle, plain paths included, so that all are scanned."""
        del handle
        return True

    def __call__(self, handle: str) -> str:
        """Returns the folder of a module, once its graph has been scanned.

        Raises:
            SourceError: it has no given folder and is not in the cache, or holds no SavedModel.
            ForbiddenOperationError: its graph could do more than compute.
        """
        folder = self._find(handle)
        scan_saved_model(read_source(Path(folder)), f"The TF-Hub module {handle}", self._allow_ops)
        return folder

    def _find(self, handle: str) -> str:
        cached = Path(cache_folder(handle))
        if _bare(handle) in self._folders:
            return self._folders[_bare(handle)]
        if any((cached / name).is_file() for name in SAVED_MODEL_FILES):
            return str(cached)
        if "://" not in handle and Path(handle).is_dir():
            return handle
        raise SourceError(
            f"The model loads {handle} from TF-Hub, which is not downloaded here. Name its folder: "
            f"--hub_handle {handle}=DIR (looked for it in tensorflow_hub's cache: {cached})"
        )


def _bare(handle: str) -> str:
    return handle.split("?")[0].rstrip("/")


def _split(spec: str) -> tuple[str, str]:
    name, found, place = spec.rpartition("=")
    return (name if found else spec.rpartition(":")[2]), place if found else spec

"""A source folder: reads its JSON files and records every file that was read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.bundle.digest import sha256_of
from model_bundle.errors import SourceError


class SourceFolder:
    """The files of a source by relative path; records which were read, for the manifest.

    Args:
        root: an existing folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: set[str] = set()

    def find(self, *names: str) -> Path | None:
        """Returns the first of these files that exists, and records it as read.

        Raises:
            SourceError: it is a link that leads out of the folder.
        """
        for name in names:
            path = self.root / name
            if path.is_file():
                check_inside(self.root, path)
                self._read.add(path.relative_to(self.root).as_posix())
                return path
        return None

    def has(self, *names: str) -> bool:
        """Whether one of these files exists."""
        return any((self.root / name).is_file() for name in names)

    def json_object(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON object; None if there is no such file.

        Raises:
            SourceError: the file contains something else.
        """
        path = self.find(name)
        if path is None:
            return None
        value = read_json(path)
        if not isinstance(value, dict):
            raise SourceError(f"{path} contains a {type(value).__name__}, expected a JSON object.")
        return value

    def mark(self, paths: tuple[Path, ...]) -> None:
        """Records files as read that were opened elsewhere.

        Raises:
            SourceError: one is a link that leads out of the folder.
        """
        for path in paths:
            check_inside(self.root, path)
        self._read |= {path.relative_to(self.root).as_posix() for path in paths}

    def digests(self) -> dict[str, str]:
        """Returns the sha256 of every file read, by path, sorted."""
        return {name: sha256_of(self.root / name) for name in sorted(self._read)}


def check_inside(root: Path, path: Path) -> None:
    """Checks that a file or folder of a source is no link out of it: what a source holds ends up in a bundle.

    The cache of the Hugging Face Hub, whose folders are links to blobs beside them, is one source.

    Raises:
        SourceError: it leads elsewhere.
    """
    real, top = path.resolve(), root.resolve()
    caches = [above.parent for above in (top, *top.parents) if above.name == "snapshots"]
    if real.is_relative_to(top) or any(real.is_relative_to(cache / "blobs") for cache in caches):
        return
    raise SourceError(
        f"{path} is a link that leads out of {root}, to {real}, whose content would become part of the "
        "bundle. If it belongs to the model, copy the folder with links followed (cp -rL) and name the copy."
    )


def check_links(root: Path) -> None:
    """Checks every link in a folder as ``check_inside`` does, and that it leads to something."""
    for folder, subfolders, names in os.walk(root):
        for link in (Path(folder) / name for name in (*subfolders, *names)):
            if not link.is_symlink():
                continue
            if not link.exists():
                raise SourceError(f"{link} is a link to {link.readlink()}, which is not there. Copy it, too.")
            check_inside(root, link)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        SourceError: it is not JSON in UTF-8.
    """
    try:
        return parse_json(path.read_bytes())
    except JsonError as error:
        raise SourceError(
            f"{path} is not JSON in UTF-8 ({error}). The file is damaged; download or export the model again."
        ) from error

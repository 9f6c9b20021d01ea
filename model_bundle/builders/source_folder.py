"""A source folder: reads its JSON files and records every file that was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
        """Returns the first of these files that exists, and records it as read."""
        for name in names:
            path = self.root / name
            if path.is_file():
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
        """Records files as read that were opened elsewhere."""
        self._read |= {path.relative_to(self.root).as_posix() for path in paths}

    def digests(self) -> dict[str, str]:
        """Returns the sha256 of every file read, by path, sorted."""
        return {name: sha256_of(self.root / name) for name in sorted(self._read)}


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        SourceError: it is not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SourceError(
            f"{path} is not JSON in UTF-8 ({error}). The file is damaged; download or export the model again."
        ) from error

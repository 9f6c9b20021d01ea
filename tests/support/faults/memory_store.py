"""A storage in memory: each call is a step, before which its caller may stand still or die."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from beam_jobs.store import filesystem

Effect = Callable[[], Any]


class MemoryStore:
    """What ``beam_jobs.store.filesystem`` does, over a dictionary.

    Args:
        before: called with the name, path and effect of each call before it is made.
        renames_at_once: whether a rename is one step; else a copy and a removal, as on object storage.
    """

    def __init__(
        self, before: Callable[[str, str, Effect], None] = lambda *_: None, *, renames_at_once: bool = True
    ) -> None:
        self.files: dict[str, bytes] = {}
        self.trace: list[tuple[str, str, Any]] = []
        self._before, self._renames_at_once = before, renames_at_once

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replaces the functions of ``filesystem`` meanwhile."""
        names = (
            *("exists", "size_of", "list_files", "read_bytes", "sha256_of", "create_if_absent", "replace"),
            *("update", "open_new", "close_safely", "delete", "delete_folder"),
        )
        calls = {name: getattr(self, name) for name in names}
        with mock.patch.multiple(filesystem, _rename=self.rename, **calls):
            yield

    def _call(self, name: str, path: str, effect: Effect) -> Any:
        self._before(name, path, effect)
        result = effect()
        self.trace.append((name, path, result))
        return result

    def exists(self, path: str) -> bool:
        return bool(self._call("exists", path, lambda: path in self.files))

    def size_of(self, path: str) -> int | None:
        found: int | None = self._call("size_of", path, lambda: _size(self.files.get(path)))
        return found

    def list_files(self, folder: str) -> dict[str, int]:
        def effect() -> dict[str, int]:
            return {p: len(data) for p, data in self.files.items() if p.rpartition("/")[0] == folder}

        found: dict[str, int] = self._call("list_files", folder, effect)
        return found

    def read_bytes(self, path: str) -> bytes | None:
        found: bytes | None = self._call("read_bytes", path, lambda: self.files.get(path))
        return found

    def sha256_of(self, path: str) -> str:
        data = self._call("sha256_of", path, lambda: self.files.get(path))
        if data is None:
            raise FileNotFoundError(path)
        return hashlib.sha256(data).hexdigest()

    def create_if_absent(self, path: str, data: bytes) -> bool:
        def effect() -> bool:
            return path not in self.files and self.files.setdefault(path, data) is data

        return bool(self._call("create_if_absent", path, effect))

    def replace(self, path: str, data: bytes) -> None:
        self._call("replace", path, lambda: self.files.update({path: data}))

    def update(self, path: str, change: Callable[[bytes | None], bytes | None]) -> None:
        def effect() -> None:
            new = change(self.files.get(path))
            if new is not None:
                self.files[path] = new

        self._call("update", path, effect)

    def rename(self, source: str, target: str) -> None:
        data: list[bytes | None] = []

        def at_once() -> bool:
            if source not in self.files:
                return False
            self.files[target] = self.files.pop(source)
            return True

        def arrive() -> None:
            assert data[0] is not None
            self.files[target] = data[0]

        if self._renames_at_once:
            is_there = self._call("rename", target, at_once)
        else:
            self._call("copy", source, lambda: data.append(self.files.get(source)))
            is_there = data[0] is not None
            if is_there:
                self._call("arrive", target, arrive)
                self._call("delete", source, lambda: self.files.pop(source, None))
        if not is_there:
            raise FileNotFoundError(source)

    def delete(self, path: str) -> None:
        self._call("delete", path, lambda: self.files.pop(path, None))

    def delete_folder(self, path: str) -> None:
        for name in sorted(p for p in self.files if p.startswith(f"{path}/")):
            self.delete(name)

    def open_new(self, _: str) -> io.BytesIO:
        return io.BytesIO()

    def close_safely(self, stream: io.BytesIO, path: str) -> None:
        data = stream.getvalue()
        self._call("write", path, lambda: self.files.update({path: data}))
        stream.close()


def _size(data: bytes | None) -> int | None:
    return None if data is None else len(data)

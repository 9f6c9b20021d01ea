"""Lists the local files of a pattern: links are followed, and what cannot be listed is an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.files.wildcards import fixed_part, pattern_regex

_Identity = tuple[int, int]


@dataclass(frozen=True)
class _Folder:
    """A folder to list: its path after the fixed part, and the folders around it, itself included."""

    relative: str
    around: frozenset[_Identity]


def local_matches(pattern: str) -> Iterator[tuple[str, int]]:
    """Finds the local files of a pattern (see ``wildcards``) in no order.

    Links to files and folders are followed, except for a link to a folder that the link is in. A link to
    nothing is a file of 0 bytes, which becomes a dead file when it is opened.

    Args:
        pattern: an absolute path, normalised.

    Yields:
        Path and size in bytes.

    Raises:
        UsageError: a folder cannot be listed, a match is neither file nor folder, or a link to nothing stands
            where a folder could be.
    """
    fixed = fixed_part(pattern)
    names = pattern[len(fixed) :].split("/")
    whole = pattern_regex(pattern[len(fixed) :])
    num_plain = next((index for index, name in enumerate(names) if "**" in name), len(names))
    tests = [pattern_regex(name) for name in names[:num_plain]]
    enters_hidden = any(name.startswith(".") for name in names[num_plain:])
    if not _exists(fixed):
        return
    waiting = [_Folder("", frozenset([_identity(fixed)]))]
    while waiting:
        folder = waiting.pop()
        depth = folder.relative.count("/")
        may_be_folder = depth + 1 < len(names) or num_plain < len(names)
        for entry in _entries(fixed + folder.relative):
            if depth < num_plain and not tests[depth].fullmatch(entry.name):
                continue
            if depth >= num_plain and entry.name.startswith(".") and not enters_hidden:
                continue
            relative = folder.relative + entry.name
            if _is_folder(entry):
                identity = _identity(entry.path)
                if may_be_folder and identity not in folder.around:
                    waiting.append(_Folder(f"{relative}/", folder.around | {identity}))
            elif whole.fullmatch(relative):
                yield entry.path, _size(entry)
            elif may_be_folder and entry.is_symlink() and not Path(entry.path).exists():
                raise UsageError(
                    f"{entry.path} is a link to nothing where {pattern} may mean a folder. Repair or remove "
                    "the link, or choose a pattern that does not match it."
                )


def _exists(folder: str) -> bool:
    try:
        Path(folder).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unlisted(folder, error) from error
    return True


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise unlisted(folder, error) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise unlisted(entry.path, error) from error


def _identity(folder: str) -> _Identity:
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise unlisted(folder, error) from error
    return status.st_dev, status.st_ino


def _size(entry: os.DirEntry[str]) -> int:
    """Returns the size of a file; 0 if it is a link to nothing or was just deleted."""
    try:
        if entry.is_file():
            return entry.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unlisted(entry.path, error) from error
    if Path(entry.path).exists():
        raise UsageError(
            f"{entry.path} is neither a file nor a folder, but a pipe, socket or device. Choose a pattern "
            "that does not match it, or write its content to a file."
        )
    return 0


def unlisted(path: str, error: OSError) -> UsageError:
    """Builds the error of a file or folder that cannot be looked at."""
    return UsageError(
        f"{path} cannot be listed: {error.strerror or error}. Get permission to read it, or choose patterns "
        "that leave it out."
    )

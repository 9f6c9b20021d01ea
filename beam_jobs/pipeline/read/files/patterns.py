"""Matches patterns to files and derives the relative paths for document ids."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from beam_jobs.base.units import count
from beam_jobs.errors import NoInputError, UsageError
from beam_jobs.pipeline.read.files.local import local_matches, unlisted
from beam_jobs.pipeline.read.files.wildcards import WILDCARD, fixed_part, pattern_regex
from beam_jobs.pipeline.read.types import SUPPORTED, FileInfo, detect_format
from beam_jobs.store import filesystem

_HOME_HINT = " In quotes, the shell does not expand ~ either: write $HOME in double quotes."


# Takes a file's path and what its pattern leaves open of it, and raises if it may not be read.
CheckPath = Callable[[str, str], None]


def match_patterns(
    patterns: Sequence[str], input_format: str | None = None, check_path: CheckPath | None = None
) -> tuple[FileInfo, ...]:
    """Finds the files of all patterns, sorted by path within each pattern; see ``match_pattern``.

    Raises:
        NoInputError: nothing matches any pattern.
        UsageError: nothing matches one of them, two match one file, or a file's format is not supported.
    """
    found: dict[str, str] = {}
    files: list[FileInfo] = []
    missing: list[NoInputError] = []
    for pattern in patterns:
        try:
            matched = match_pattern(pattern, input_format, check_path)
        except NoInputError as error:
            missing.append(error)
            continue
        for file in matched:
            if file.path in found:
                raise UsageError(
                    f"{file.path} matches both {found[file.path]} and {pattern}; its documents would be in "
                    "the output twice. Leave one of them out."
                )
            found[file.path] = pattern
            files.append(file)
    if missing and files:
        raise UsageError(f"{missing[0]} Other patterns match {count(len(files), 'file')}.") from missing[0]
    if missing:
        raise missing[0]
    return tuple(files)


def match_pattern(
    pattern: str, input_format: str | None = None, check_path: CheckPath | None = None
) -> list[FileInfo]:
    """Finds the files of one pattern (see ``wildcards``) or folder, sorted by path.

    A file or folder whose name contains wildcards is also found by its literal name. Below a folder,
    names that begin with a dot or an underscore are left out, as by Spark, pyarrow and BigQuery: they are
    marks and logs of the program that wrote the folder. A partition such as ``_x=1`` is not.

    Args:
        pattern: a pattern, a file or a folder; a remote folder ends with a slash.
        input_format: a key of ``INPUT_FORMATS``; None takes each file's format from its name.
        check_path: called with each file before its format is looked at.

    Raises:
        NoInputError: nothing matches.
        UsageError: storage cannot be listed, or a file's format is not supported.
    """
    if pattern.startswith("file:"):
        raise UsageError(f"{pattern}: write a local path without file://.")
    if filesystem.is_local(pattern):
        # Workers may have another working directory.
        pattern = os.path.normpath(Path(pattern).absolute())
        found, prefix, is_folder = _local_files(pattern)
    else:
        found, prefix = _remote_files(pattern)
        is_folder = pattern.endswith("/")
    # Some tools represent folders as objects whose name ends with a slash.
    found = sorted((path, size) for path, size in found if not path.endswith("/"))
    if is_folder:
        found = [(path, size) for path, size in found if not _is_left_out(path[len(prefix) :])]
    if not found:
        raise NoInputError(
            f"No file matches {pattern}. Check the path; quote patterns, so that the shell does not expand "
            f"them.{_HOME_HINT if '/~' in pattern else ''}"
        )
    if check_path is not None:
        for path, _ in found:
            check_path(path, path[len(prefix) :])
    return [_file(path, path[len(prefix) :], size, input_format) for path, size in found]


def _local_files(path: str) -> tuple[list[tuple[str, int]], str, bool]:
    """Returns paths and sizes of the files of a pattern or path, its prefix, and whether it is a folder."""
    try:
        if Path(path).is_dir():
            return list(local_matches(f"{glob.escape(path)}/**")), f"{path.rstrip('/')}/", True
        if Path(path).is_file():
            return [(path, Path(path).stat().st_size)], path[: path.rindex("/") + 1], False
    except OSError as error:
        raise unlisted(path, error) from error
    return list(local_matches(path)), fixed_part(path), False


def _is_left_out(relative: str) -> bool:
    return any(name[0] == "." or (name[0] == "_" and "=" not in name) for name in relative.split("/"))


def check_ids(files: Iterable[FileInfo]) -> None:
    """Rejects files whose documents would have the same ids.

    Raises:
        UsageError: with both files and possible solutions.
    """
    found: dict[str, str] = {}
    for file in files:
        other = found.setdefault(file.relative, file.path)
        if other != file.path:
            raise UsageError(
                f"Documents of {other} and {file.path} would have the same ids, because ids are made from "
                f"the path after the fixed part of each pattern, here {file.relative!r} for both. Match "
                f"both with one pattern, such as '{_common_pattern(other, file.path)}', or give --id_column."
            )


def _remote_files(pattern: str) -> tuple[list[tuple[str, int]], str]:
    """Returns paths and sizes of the files of a pattern, path or folder, and its prefix.

    Everything after the fixed part is listed, and matched here: services' wildcards have other meanings.
    """
    fixed, *others = WILDCARD.split(pattern, maxsplit=1)
    try:
        if not others and not pattern.endswith("/"):
            size = filesystem.size_of(pattern)
            return ([] if size is None else [(pattern, size)]), fixed_part(pattern)
        listed = filesystem.list_remote(fixed)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The files of {pattern} cannot be listed: {error}. Check the path and your permissions."
        ) from error
    is_folder = pattern.endswith("/")
    literal = [(p, n) for p, n, _ in listed if p == pattern or (is_folder and p.startswith(pattern))]
    if literal:
        return literal, pattern[: pattern.rindex("/") + 1]
    prefix = fixed_part(pattern)
    regex = pattern_regex(f"{pattern}**"[len(prefix) :] if is_folder else pattern[len(prefix) :])
    return [(path, size) for path, size, _ in listed if regex.fullmatch(path[len(prefix) :])], prefix


def _file(path: str, relative: str, size: int, input_format: str | None) -> FileInfo:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"The name of {path!r} is not valid UTF-8, so no id can be made of it. Rename it."
        ) from error
    detected = detect_format(path, input_format)
    if detected is None and input_format is not None:
        raise UsageError(f"{path}: {input_format} is compressed inside. Decompress the file.")
    if detected is None:
        raise UsageError(
            f"{path}: unsupported file extension. Supported: {SUPPORTED}. For other names, state the format "
            "of all files with --input_format."
        )
    return FileInfo(path, relative, size, *detected)


def _common_pattern(one: str, other: str) -> str:
    """Returns a pattern that matches two files in different folders."""
    folders, others = one.split("/"), other.split("/")
    common = 0
    while folders[common] == others[common]:
        common += 1
    return "/".join([*folders[:common], "**", folders[-1]])

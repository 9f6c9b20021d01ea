"""Matches patterns to files and derives the relative paths for document ids."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_jobs.base.units import count
from beam_jobs.errors import NoInputError, UsageError
from beam_jobs.pipeline.read.types import SUPPORTED, FileInfo, detect_format

_WILDCARD = re.compile(r"[\[*?]")


def match_patterns(patterns: Sequence[str]) -> tuple[FileInfo, ...]:
    """Finds the files of all patterns, sorted by path within each pattern.

    Raises:
        NoInputError: nothing matches any pattern.
        UsageError: nothing matches one of them, two match one file, or a file's format is not supported.
    """
    found: dict[str, str] = {}
    files: list[FileInfo] = []
    missing: list[NoInputError] = []
    for pattern in patterns:
        try:
            matched = match_pattern(pattern)
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


def match_pattern(pattern: str) -> list[FileInfo]:
    """Finds the files of one pattern, sorted by path.

    ``*`` and ``?`` match within a folder, ``**`` across folders, ``[ab]`` one of these characters. A local
    file whose name contains such characters is also found by its literal name.

    Raises:
        NoInputError: nothing matches.
        UsageError: storage cannot be listed, or a file's format is not supported.
    """
    local = FileSystems.get_scheme(pattern) is None
    if local:
        # Beam finds nothing for a bare "*.txt", and workers may have another working directory.
        pattern = os.path.normpath(Path(pattern).absolute())
        if Path(pattern).is_dir():
            raise UsageError(f"{pattern} is a folder. Select files in it, for example '{pattern}/*.jsonl'.")
    is_name = local and Path(pattern).is_file()
    sizes = [(pattern, Path(pattern).stat().st_size)] if is_name else _listed(pattern)
    prefix = _fixed_prefix(pattern, is_name)
    # Some tools represent folders as objects whose name ends with a slash.
    files = [_file(path, path[len(prefix) :], size) for path, size in sorted(sizes) if not path.endswith("/")]
    if not files:
        raise NoInputError(
            f"No file matches {pattern}. Check the path; quote patterns, so that the shell does not expand "
            "them."
        )
    return files


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


def _listed(pattern: str) -> list[tuple[str, int]]:
    try:
        (match,) = FileSystems.match([pattern])
    except (BeamIOError, ValueError) as error:
        raise UsageError(
            f"The files of {pattern} cannot be listed: {error}. Check the path and your permissions."
        ) from error
    return [(metadata.path, metadata.size_in_bytes) for metadata in match.metadata_list]


def _fixed_prefix(pattern: str, is_name: bool) -> str:
    fixed = pattern if is_name else _WILDCARD.split(pattern, maxsplit=1)[0]
    return fixed[: fixed.rindex("/") + 1]


def _file(path: str, relative: str, size: int) -> FileInfo:
    detected = detect_format(path)
    if detected is None:
        hint = (
            " A .json file with one object per line should be named .jsonl."
            if path.lower().endswith(".json")
            else ""
        )
        raise UsageError(f"{path}: unsupported file extension. Supported: {SUPPORTED}.{hint}")
    return FileInfo(path, relative, size, *detected)


def _common_pattern(one: str, other: str) -> str:
    """Returns a pattern that matches two files in different folders."""
    folders, others = one.split("/"), other.split("/")
    common = 0
    while folders[common] == others[common]:
        common += 1
    return "/".join([*folders[:common], "**", folders[-1]])

"""Unpacks an untrusted archive into a folder, and never outside it."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from model_bundle.base.untrusted.zips import open_zip, unpacked_limit
from model_bundle.errors import SourceError

_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
_ZIP_ENDINGS = (".zip",)
# Other users of the disk must not fail because of an archive.
_KEPT_FREE_BYTES = 100_000_000
ENDINGS = (*_TAR_ENDINGS, *_ZIP_ENDINGS)


@dataclass(frozen=True)
class _Member:
    """An entry of an archive.

    ``kind`` is ``file``, ``folder`` or ``other``; ``size`` is in bytes, unpacked.
    """

    name: str
    kind: str
    size: int
    open: Callable[[], AbstractContextManager[IO[bytes]]]


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks plain files and folders.

    Args:
        archive: a tar file, compressed or not, or a zip file, by its suffix.
        folder: is created; nothing is written outside it.

    Returns:
        ``folder``.

    Raises:
        SourceError: the archive is of another kind or damaged; an entry is a link or special file, or outside
            the folder; or the content would fill the disk.
    """
    if not archive.name.lower().endswith(ENDINGS):
        raise SourceError(
            f"{archive} is not an archive that can be unpacked ({', '.join(ENDINGS)}). "
            "Name the folder that contains saved_model.pb, or an archive of it."
        )
    members = _zip_members if archive.name.lower().endswith(_ZIP_ENDINGS) else _tar_members
    folder.mkdir(parents=True)
    try:
        total = 0
        for member in members(archive):
            total += member.size
            _check_space(member, folder, archive)
            _check_total(total, archive)
            _write(member, folder, archive)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise SourceError(f"{archive} is damaged or incomplete ({error}). Download it again.") from error
    return folder


def _check_total(num_bytes: int, archive: Path) -> None:
    limit = unpacked_limit(archive.stat().st_size)
    if num_bytes > limit:
        raise SourceError(
            f"{archive} was not unpacked: it has {archive.stat().st_size} bytes and unpacks to more than "
            f"{limit}. If its content is right, pack it again without compression."
        )


def _check_space(member: _Member, folder: Path, archive: Path) -> None:
    """Rejects an entry that does not fit on the disk, before any of it is written."""
    free = shutil.disk_usage(folder).free
    if member.size > free - _KEPT_FREE_BYTES:
        raise SourceError(
            f"{archive} was not unpacked: its entry {member.name!r} has {member.size} bytes, and only "
            f"{free} are free at {folder}. If the size is right, set TMPDIR to a folder on a larger disk."
        )


def _write(member: _Member, folder: Path, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise SourceError(
            f"{archive} was not unpacked: its entry {member.name!r} would be outside the folder. "
            "Do not trust this archive."
        )
    if member.kind == "other":
        raise SourceError(
            f"{archive} was not unpacked: its entry {member.name!r} is a link or special file; expected "
            "plain files. Pack it again with links followed (tar --dereference)."
        )
    target = folder.joinpath(*path.parts)
    if member.kind == "folder":
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise SourceError(f"{archive} was not unpacked: it has the entry {member.name!r} more than once.")
    with member.open() as source, target.open("xb") as stream:
        shutil.copyfileobj(source, stream)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for info in tar:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "other"
            yield _Member(info.name, kind, info.size, partial(_opened, tar, info))


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    if stream is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return stream


def _zip_members(archive: Path) -> Iterator[_Member]:
    with open_zip(archive, str(archive)) as stored:
        for info in stored.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            plain = mode in (0, stat.S_IFREG, stat.S_IFDIR)
            kind = "other" if not plain else "folder" if info.is_dir() else "file"
            yield _Member(info.filename, kind, info.file_size, partial(stored.open, info))

"""Content digests: checks a bundle's files and computes its identity."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from model_bundle.base.untrusted.json_text import parse_json
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest, canonical_json
from model_bundle.bundle.specs import FileSpec
from model_bundle.errors import BundleIntegrityError

_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file's content as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def bundle_digest(manifest: BundleManifest) -> str:
    """Returns a bundle's identity: the sha256 of its canonical ``bundle.json``."""
    return hashlib.sha256(manifest.to_bytes()).hexdigest()


def _is_canonical(data: bytes) -> bool:
    try:
        return data == canonical_json(parse_json(data))
    except ValueError:  # a number or text that canonical JSON cannot state, such as half a character
        return False


def list_files(bundle_dir: Path) -> tuple[FileSpec, ...]:
    """Lists every file of a bundle but ``bundle.json``, sorted by path, with size and sha256.

    Raises:
        BundleIntegrityError: an entry is neither a plain file nor a folder.
    """
    files = (
        FileSpec(path=path, size=(bundle_dir / path).stat().st_size, sha256=sha256_of(bundle_dir / path))
        for path in sorted(_walk(bundle_dir))
        if path != MANIFEST_NAME
    )
    return tuple(files)


def check_files(bundle_dir: Path, manifest: BundleManifest, pinned: str | None = None) -> str:
    """Checks that a folder holds exactly what its manifest lists, and returns the bundle's digest.

    Sizes are compared before any content is read. Without ``pinned`` this proves integrity, not origin.

    Raises:
        BundleIntegrityError: names each file that is missing, extra, changed or not a plain file.
    """
    # The stored bytes, not the manifest as this release would write it: later releases add fields.
    data = (bundle_dir / MANIFEST_NAME).read_bytes()
    if not _is_canonical(data):
        raise _refused(bundle_dir, [f"{MANIFEST_NAME} is not in its canonical form: it was edited by hand"])
    digest = hashlib.sha256(data).hexdigest()
    if pinned is not None and pinned != digest:
        raise _refused(bundle_dir, [f"its digest is {digest}, pinned is {pinned}"])
    outside = [f"outside of the folder: {file.path!r}" for file in manifest.files if not is_inside(file.path)]
    if outside:
        raise _refused(bundle_dir, outside)
    listed = {file.path: file for file in manifest.files}
    found = set(_walk(bundle_dir)) - {MANIFEST_NAME}
    faults = [f"missing: {path}" for path in sorted(listed.keys() - found)]
    faults += [f"not listed: {path}" for path in sorted(found - listed.keys())]
    present = [file for path, file in sorted(listed.items()) if path in found]
    sizes = {file.path: (bundle_dir / file.path).stat().st_size for file in present}
    faults += [
        f"{f.path}: {sizes[f.path]} bytes, listed {f.size}" for f in present if sizes[f.path] != f.size
    ]
    if not faults:
        faults = [f"changed: {f.path}" for f in present if sha256_of(bundle_dir / f.path) != f.sha256]
    if faults:
        raise _refused(bundle_dir, faults)
    return digest


def is_inside(path: str) -> bool:
    """Whether a path from a manifest stays inside the bundle's folder.

    >>> is_inside("saved_model/saved_model.pb"), is_inside("../other"), is_inside("/etc/hosts")
    (True, False, False)
    """
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and not {"\\", "\0"} & set(path)


def _walk(bundle_dir: Path) -> Iterator[str]:
    """Yields relative paths of plain files; rejects anything else (a link, a socket)."""
    for folder, subfolders, names in os.walk(bundle_dir, followlinks=False):
        for name in subfolders + names:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            relative = path.relative_to(bundle_dir).as_posix()
            if stat.S_ISREG(mode):
                yield relative
            elif not stat.S_ISDIR(mode):
                raise _refused(
                    bundle_dir, [f"{relative} is a link or special file; a bundle contains plain files only"]
                )


def _refused(bundle_dir: Path, faults: list[str]) -> BundleIntegrityError:
    lines = "\n".join(f"  {fault}" for fault in faults)
    return BundleIntegrityError(
        f"The model bundle {bundle_dir} is not the one its manifest describes:\n{lines}\n"
        "It was not opened. Copy it again from its source, or rebuild it."
    )

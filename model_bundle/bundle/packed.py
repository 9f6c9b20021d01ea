"""Packs a bundle without its weights into a few hundred kilobytes, to embed it in a saved Keras model."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from model_bundle.base.untrusted.zips import open_zip
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import sha256_of
from model_bundle.bundle.graph_scan.scan import scan_folder
from model_bundle.bundle.manifest import GOLDEN_NAME, MANIFEST_NAME, SAVED_MODEL_DIR, BundleManifest
from model_bundle.errors import BundleFormatError, BundleIntegrityError, SourceError

_VARIABLES = f"{SAVED_MODEL_DIR}/variables/"
# The earliest date of the Zip format; the current date would make files of equal models differ.
_DATE = (1980, 1, 1, 0, 0, 0)


def pack_bundle(bundle: ModelBundle) -> str:
    """Packs manifest, graph, assets, tokenizer and licence as base64 of a zip; deterministic."""
    names = [file.path for file in bundle.manifest.files if _is_packed(file.path)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in [MANIFEST_NAME, *sorted(names)]:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (bundle.path / name).read_bytes())
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def unpack_bundle(packed: str, folder: Path, where: str, allowed_ops: Sequence[str] = ()) -> BundleManifest:
    """Unpacks into an empty folder, checks every file against the manifest, and scans the graph.

    Args:
        packed: the result of ``pack_bundle``.
        folder: receives ``bundle.json``, ``saved_model/`` without variables, and ``tokenizer/``.
        where: the file that contains it, for errors.
        allowed_ops: operations with outside effects that its graph may use. What the bundle itself allows
            does not count: the author of the file could have written it.

    Raises:
        BundleFormatError: it is not a packed bundle.
        BundleIntegrityError: a file is missing, changed or not listed.
        ForbiddenOperationError: its graph can do more than compute.
    """
    try:
        stream = io.BytesIO(base64.b64decode(packed, validate=True))
        with open_zip(stream, f"the bundle inside {where}") as archive:
            manifest = _extract(archive, folder, where)
    except (ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, SourceError) as error:
        raise BundleFormatError(
            f"{where} does not contain a complete model bundle ({error}). Save the model again."
        ) from error
    scan_folder(folder / SAVED_MODEL_DIR, f"The model bundle inside {where}", allowed_ops)
    return manifest


def _is_packed(path: str) -> bool:
    return not path.startswith(_VARIABLES) and path != GOLDEN_NAME


def _extract(archive: zipfile.ZipFile, folder: Path, where: str) -> BundleManifest:
    data = archive.read(MANIFEST_NAME)
    manifest = BundleManifest.from_bytes(data, f"{where}, {MANIFEST_NAME}")
    listed = {file.path: file.sha256 for file in manifest.files if _is_packed(file.path)}
    faults = sorted(listed.keys() ^ (set(archive.namelist()) - {MANIFEST_NAME}))
    faults += [
        name for name in listed if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    ]
    if faults:
        raise BundleIntegrityError(
            f"{where}: files of the bundle inside are missing or unexpected: {', '.join(faults)}"
        )
    (folder / MANIFEST_NAME).write_bytes(data)
    for name, sha256 in listed.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.read(name))
        if sha256_of(path) != sha256:
            raise BundleIntegrityError(f"{where}: {name} differs from the file that its manifest lists.")
    return manifest

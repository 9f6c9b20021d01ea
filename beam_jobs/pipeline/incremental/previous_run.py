"""Finds the run that ``--previous`` names, and checks whether its rows can be reused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.chain import runs_before
from beam_jobs.store.filesystem import absolute_path
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.latest import read_latest
from beam_jobs.store.manifest import (
    CHANGES,
    CLASSES,
    EMBEDDINGS,
    FAILED_NAME,
    LATEST_NAME,
    MANIFEST_NAME,
    STAGING_DIR,
    RunManifest,
)
from model_bundle.text.boundaries import boundary_rules

LATEST = "latest"
# The flags that determine a vector; the manifest of a run holds their values.
_DECIDING_FLAGS = (
    *("bundle", "layer", "pooling", "rows", "max_tokens", "prompt", "prompt_text", "precision"),
    *("vector_dtype", "top_k", "threshold", "keep_logits", "on_long", "window_overlap", "combine"),
    *("max_unknown_fraction", "windows_at", "window_language"),
)


@dataclass(frozen=True)
class PreviousRun:
    """A finished run: its folder, its manifest and its sha256, and whether it was named or is the latest."""

    root: str
    manifest: RunManifest
    is_named: bool
    sha256: str = ""

    @property
    def row_files(self) -> dict[str, int]:
        """The paths of the files with rows, and their sizes in bytes."""
        return self._files(EMBEDDINGS, CLASSES)

    @property
    def change_files(self) -> dict[str, int]:
        """The paths of the files with changes, and their sizes in bytes."""
        return self._files(CHANGES)

    def _files(self, *kinds: str) -> dict[str, int]:
        files = [file for file in self.manifest.files if file.kind in kinds]
        return {filesystem.join(self.root, *file.path.split("/")): file.num_bytes for file in files}


def find_previous(value: str, output: str) -> PreviousRun | None:
    """Finds the run that ``--previous`` names.

    Args:
        value: the folder of a run, a root of runs (selects the latest one), or the id of a run below
            ``output``; ``latest`` selects the latest one there.
        output: root of the runs, local or remote.

    Returns:
        The run; None for ``latest`` if there is none yet.

    Raises:
        UsageError: there is no such run, or it is not finished.
    """
    if value == LATEST:
        return _latest_below(output)
    places = [absolute_path(value), filesystem.join(output, value)]
    for place in places:
        found = _run_at(place) or _latest_below(place)
        if found is not None:
            return found
    raise UsageError(
        f"--previous {value}: neither a run nor a root of runs. Looked for {MANIFEST_NAME} and "
        f"{LATEST_NAME} in {' and '.join(places)}."
    )


def _run_at(root: str) -> PreviousRun | None:
    data = filesystem.read_bytes(filesystem.join(root, MANIFEST_NAME))
    if data is not None:
        manifest = RunManifest.from_bytes(data, filesystem.join(root, MANIFEST_NAME))
        return PreviousRun(root, manifest, is_named=True, sha256=hashlib.sha256(data).hexdigest())
    if filesystem.exists(filesystem.join(root, FAILED_NAME)) or filesystem.list_files(
        filesystem.join(root, STAGING_DIR)
    ):
        raise UsageError(
            f"--previous {root}: this run is not finished, so rows may be missing. Finish it first: start it "
            "again with its --run_id, which reuses what it has computed."
        )
    return None


def _latest_below(root: str) -> PreviousRun | None:
    latest = read_latest(root)
    if latest is None:
        return None
    found = _run_at(filesystem.join(root, latest.run_id))
    if found is None:
        path = filesystem.join(root, LATEST_NAME)
        raise UsageError(
            f"{path} names the run {latest.run_id}, which no longer exists. Choose another run, or remove "
            "the file."
        )
    return replace(found, is_named=False)


def chain_of(run: PreviousRun) -> tuple[PreviousRun, ...]:
    """Returns a run and, if it holds only changes, the runs that complete it; the last one is complete.

    Raises:
        UsageError: one of them is missing or is another one.
    """
    older = runs_before(FinishedRun(run.root, run.manifest))
    return (run, *(PreviousRun(part.folder, part.manifest, is_named=True) for part in older))


def difference(
    manifest: RunManifest, bundle_digest: str, settings_digest: str, flags: Mapping[str, Any]
) -> str:
    """Returns why the rows of a run cannot be reused; empty if they can.

    Args:
        manifest: manifest of the earlier run.
        bundle_digest: digest of the current bundle.
        settings_digest: digest of the current settings.
        flags: current flags.
    """
    if manifest.bundle.get("digest") != bundle_digest:
        name, digest = manifest.bundle.get("name"), str(manifest.bundle.get("digest"))
        return f"its bundle is {name} ({digest[:12]}), now it is {bundle_digest[:12]}"
    if manifest.settings_digest == settings_digest:
        return ""
    differ = [
        f"--{name} was {manifest.config.get(name)!r} and is {flags.get(name)!r}"
        for name in _DECIDING_FLAGS
        if manifest.config.get(name) != flags.get(name)
    ]
    return "; ".join(differ) or _other_boundaries(manifest) or "it was written with other settings"


def _other_boundaries(manifest: RunManifest) -> str:
    """Returns which rules found the ends of a run's windows, if they are not those of today; else nothing."""
    rules = manifest.settings.get("long_texts", {}).get("boundary_rules")
    if rules is None or rules == boundary_rules():
        return ""
    return f"its windows end where {rules} put the ends of sentences, now it is {boundary_rules()}"


def check_whole(run: PreviousRun) -> None:
    """Checks that all files with rows or changes exist and have the right size.

    Raises:
        UsageError: a file is missing or has another size.
    """
    wanted = run.row_files | run.change_files
    folders = {path.rpartition("/")[0] for path in wanted}
    sizes = {path: size for folder in folders for path, size in filesystem.list_files(folder).items()}
    for path, size in wanted.items():
        if sizes.get(path) != size:
            raise UsageError(
                f"--previous: {path} should have {size} bytes but has {sizes.get(path)}; the run was changed "
                "after it was written. Choose another run, or leave --previous out."
            )


def kind_of(run: PreviousRun) -> str | None:
    """Returns the kind of a run's rows, ``embeddings`` or ``classes``; None without rows."""
    return next((file.kind for file in run.manifest.files if file.kind in (EMBEDDINGS, CLASSES)), None)

"""Which earlier run is meant, and whether its rows can be taken over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.filesystem import absolute_path
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

LATEST = "latest"
# The flags that decide what a vector is; a run's manifest holds them as they were given.
_DECIDING_FLAGS = (
    "bundle",
    "layer",
    "pooling",
    "rows",
    "max_tokens",
    "prompt",
    "prompt_text",
    "precision",
    "vector_dtype",
    "top_k",
    "threshold",
    "keep_logits",
    "on_long",
    "window_overlap",
    "combine",
)


@dataclass(frozen=True)
class PreviousRun:
    """A finished run: the folder it is in, its manifest, and whether it was named itself or is the latest."""

    root: str
    manifest: RunManifest
    is_named: bool

    @property
    def row_files(self) -> dict[str, int]:
        """Returns the paths of the files with rows, and their sizes in bytes."""
        return self._files(EMBEDDINGS, CLASSES)

    @property
    def change_files(self) -> dict[str, int]:
        """Returns the paths of the files with changes, and their sizes in bytes."""
        return self._files(CHANGES)

    def _files(self, *kinds: str) -> dict[str, int]:
        files = [file for file in self.manifest.files if file.kind in kinds]
        return {filesystem.join(self.root, *file.path.split("/")): file.num_bytes for file in files}


def find_previous(value: str, output: str) -> PreviousRun | None:
    """Finds the run that ``--previous`` names.

    Args:
        value: the folder of a run, or of runs (then the latest one), or the id of a run below ``output``;
            ``latest`` is the latest one there.
        output: root of the runs, local or gs://.

    Returns:
        The run; None where ``latest`` was asked for and there is none yet.

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
        f"--previous {value}: neither the folder of a run nor one of runs. Looked for {MANIFEST_NAME} and "
        f"{LATEST_NAME} in {' and '.join(places)}."
    )


def _run_at(root: str) -> PreviousRun | None:
    data = filesystem.read_bytes(filesystem.join(root, MANIFEST_NAME))
    if data is not None:
        manifest = RunManifest.from_bytes(data, filesystem.join(root, MANIFEST_NAME))
        return PreviousRun(root, manifest, is_named=True)
    if filesystem.exists(filesystem.join(root, FAILED_NAME)) or filesystem.list_files(
        filesystem.join(root, STAGING_DIR)
    ):
        raise UsageError(
            f"--previous {root}: this run is not finished, so it may lack rows. Finish it first: what it has "
            "computed is used when it is started again with its --run_id."
        )
    return None


def _latest_below(root: str) -> PreviousRun | None:
    path = filesystem.join(root, LATEST_NAME)
    data = filesystem.read_bytes(path)
    if data is None:
        return None
    try:
        run_id = str(json.loads(data)["run_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} does not name a run: {error}. Name the run itself.") from error
    found = _run_at(filesystem.join(root, run_id))
    if found is None:
        raise UsageError(
            f"{path} names the run {run_id}, which is gone. Name another run, or remove the file."
        )
    return replace(found, is_named=False)


def chain_of(run: PreviousRun) -> tuple[PreviousRun, ...]:
    """Returns a run and, if it holds only changes, the runs that complete it; the last one is whole.

    Raises:
        UsageError: one of them is gone.
    """
    chain = [run]
    while chain[-1].manifest.emit == "changes":
        entry = chain[-1].manifest.previous
        if entry is None:
            raise UsageError(f"{chain[-1].root} holds changes, but does not say since which run.")
        beside = filesystem.join(chain[-1].root.rpartition("/")[0], entry.run_id)
        found = _run_at(beside) or _run_at(entry.root)
        if found is None:
            raise UsageError(
                f"--previous {run.root} holds changes only, and the run before, {entry.run_id}, is gone. "
                f"Looked for it at {beside} and {entry.root}. Name a complete run."
            )
        chain.append(found)
    return tuple(chain)


def difference(
    manifest: RunManifest, bundle_digest: str, settings_digest: str, flags: Mapping[str, Any]
) -> str:
    """Says why the rows of a run cannot be taken over; empty where they can.

    Args:
        manifest: of the earlier run.
        bundle_digest: of the bundle to be used now.
        settings_digest: of the settings to be used now.
        flags: as given now.
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
    return "; ".join(differ) or "it was written with other settings"


def check_whole(run: PreviousRun) -> None:
    """Checks that every file with rows or changes is there with its size.

    Raises:
        UsageError: names one that is not.
    """
    wanted = run.row_files | run.change_files
    folders = {path.rpartition("/")[0] for path in wanted}
    sizes = {path: size for folder in folders for path, size in filesystem.list_files(folder).items()}
    for path, size in wanted.items():
        if sizes.get(path) != size:
            raise UsageError(
                f"--previous: {path} should have {size} bytes and has {sizes.get(path)}; the run was changed "
                "after it was written. Name another run, or leave --previous out."
            )


def kind_of(run: PreviousRun) -> str | None:
    """Returns what the rows of a run are, ``embeddings`` or ``classes``; None where it has no rows."""
    return next((file.kind for file in run.manifest.files if file.kind in (EMBEDDINGS, CLASSES)), None)

"""The mark: what a store holds, kept in the store itself."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from beam_jobs.errors import JobError, UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import MANIFEST_NAME

# The table of all marks of a database.
MARKS = "beam_jobs_sync"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MarkedRun(_Part):
    """A run by its id, its folder and the sha256 of its manifest, which pins all of its rows."""

    run_id: str
    folder: str
    sha256: str


class Mark(_Part):
    """What a table holds.

    ``current`` is the run whose rows it held last; None before the first one is complete. ``target`` is the
    run that it is being brought to: while it is set, some rows may be those of ``target`` already. The other
    fields are those of every run that the table may hold; ``columns`` are names and Arrow types.
    """

    current: MarkedRun | None
    target: MarkedRun | None
    bundle_digest: str
    settings_digest: str
    columns: tuple[tuple[str, str], ...]
    dimensions: dict[str, int]

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parses a mark.

        Raises:
            JobError: it is damaged, or a later release wrote it.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise JobError(
                f"The mark of {where} is not one of this release: {error}. Use the release that wrote it, or "
                "name another --table."
            ) from error

    def begun(self, run: MarkedRun, *, trusted: bool) -> Mark:
        """Returns the mark of the time between the first and the last batch.

        Args:
            run: the new target.
            trusted: whether the rows that are there are those of ``current``, or of ``target``.
        """
        return self.model_copy(update={"current": self.current if trusted else None, "target": run})

    def ended(self) -> Mark:
        """Returns the mark of a table that holds the target."""
        return self.model_copy(update={"current": self.target, "target": None})


def marked(run: FinishedRun) -> MarkedRun:
    """Returns what a mark says of a run.

    Raises:
        JobError: its manifest is gone.
    """
    path = filesystem.join(run.folder, MANIFEST_NAME)
    data = filesystem.read_bytes(path)
    if data is None:
        raise JobError(f"{path} was removed while it was read. Give the folder of a finished run.")
    sha256 = hashlib.sha256(data).hexdigest()
    return MarkedRun(run_id=run.manifest.run_id, folder=run.folder, sha256=sha256)


def first_mark(run: FinishedRun, schema: pa.Schema, dimensions: dict[str, int]) -> Mark:
    """Returns the mark of a table that is about to be created for a run."""
    return Mark(
        current=None,
        target=None,
        bundle_digest=str(run.manifest.bundle.get("digest", "")),
        settings_digest=run.manifest.settings_digest,
        columns=tuple((field.name, str(field.type)) for field in schema),
        dimensions=dimensions,
    )


def check_same_kind(held: Mark, wanted: Mark, where: str) -> None:
    """Checks that a table can hold the rows of a run.

    Raises:
        UsageError: it holds vectors of another dimension or model, or other columns.
    """
    columns = sorted(name for name, _ in set(held.columns) ^ set(wanted.columns))
    for what, theirs, ours in (
        ("dimension", held.dimensions, wanted.dimensions),
        ("columns", ", ".join(dict(held.columns)), f"others in {', '.join(columns)}" if columns else None),
        ("bundle", held.bundle_digest, wanted.bundle_digest),
        ("settings", held.settings_digest, wanted.settings_digest),
    ):
        if ours is not None and theirs != ours:
            raise UsageError(
                f"{where} has another {what} than the run: expected {_shown(ours)}, found {_shown(theirs)}. "
                "Rows of both cannot be in one table: name another --table, and let readers change over to "
                "it when it is complete. Nothing was written."
            )


def check_columns(mark: Mark, names: Collection[str], where: str) -> None:
    """Checks that a table still has its columns; it may have more.

    Raises:
        UsageError: it lacks some.
    """
    lost = [name for name, _ in mark.columns if name not in names]
    if lost:
        raise UsageError(
            f"{where} lacks columns that a sync gave it: {', '.join(lost)}. Drop it, or name another "
            "--table. Nothing was written."
        )


def _shown(value: str | dict[str, int]) -> str:
    return value if isinstance(value, str) else ", ".join(f"{name} {dim}" for name, dim in value.items())

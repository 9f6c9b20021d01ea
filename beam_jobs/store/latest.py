"""``latest.json``: names the newest finished run of a root. Which one that is: docs/decisions/latest.md."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from beam_jobs.base.config import RUN_ID
from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import LATEST_NAME, RunManifest

_logger = logging.getLogger(__name__)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Latest:
    """A run in the order of runs: by ``sequence``, and by time only if neither knew of the other.

    ``run_id`` is the name of a folder in the root. ``finished_at`` is the earliest time if it is unknown.
    """

    sequence: int
    finished_at: datetime
    run_id: str


def read_latest(root: str) -> Latest | None:
    """Reads ``latest.json``; None if there is none.

    Raises:
        UsageError: it does not name a folder in the root.
    """
    path = filesystem.join(root, LATEST_NAME)
    return _parse(path, filesystem.read_bytes(path))


def next_sequence(root: str) -> int:
    """Returns the number of a run that is about to be committed: one more than that of the latest."""
    path = filesystem.join(root, LATEST_NAME)
    latest = _parse_leniently(path, filesystem.read_bytes(path))
    return 1 if latest is None else latest.sequence + 1


def point_to(root: str, manifest: RunManifest) -> None:
    """Enters a finished run as the latest one unless a newer one is; no other writer can come between."""
    path = filesystem.join(root, LATEST_NAME)
    ours = Latest(manifest.sequence, _time(manifest.finished_at), manifest.run_id)

    def change(data: bytes | None) -> bytes | None:
        latest = _parse_leniently(path, data)
        if latest is not None and latest >= ours:
            return None
        content = {name: getattr(manifest, name) for name in ("run_id", "finished_at", "sequence")}
        return (json.dumps(content) + "\n").encode()

    filesystem.update(path, change)


def _parse_leniently(path: str, data: bytes | None) -> Latest | None:
    """Parses the file; a damaged one counts as none."""
    try:
        return _parse(path, data)
    except UsageError as error:
        _logger.warning("%s", error)
        return None


def _parse(path: str, data: bytes | None) -> Latest | None:
    if data is None:
        return None
    try:
        content = json.loads(data)
        run_id, sequence = content["run_id"], content.get("sequence")
        if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} is not the name of a folder next to it")
        return Latest(sequence if isinstance(sequence, int) else 0, _time(content.get("finished_at")), run_id)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path} does not name a run: {error}. Give the folder of a run; the next run that finishes "
            "replaces the file."
        ) from error


def _time(text: object) -> datetime:
    """Parses a time with its zone."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return _NEVER
    return _NEVER if when.tzinfo is None else when

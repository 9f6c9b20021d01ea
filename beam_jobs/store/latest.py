"""``latest.json``: names the run of a root that finished most recently."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from beam_jobs.base.config import RUN_ID
from beam_jobs.errors import UsageError
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import LATEST_NAME


@dataclass(frozen=True)
class Latest:
    """A run's id, the name of a folder in the root, and when it finished; None if that is unknown."""

    run_id: str
    finished_at: datetime | None


def read_latest(root: str) -> Latest | None:
    """Reads ``latest.json``; None if there is none.

    Raises:
        UsageError: it does not name a folder in the root.
    """
    path = filesystem.join(root, LATEST_NAME)
    data = filesystem.read_bytes(path)
    if data is None:
        return None
    try:
        content = json.loads(data)
        run_id, finished_at = content["run_id"], content.get("finished_at")
        if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} is not the name of a folder next to it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path} does not name a run: {error}. Give the folder of a run; the next run that finishes "
            "replaces the file."
        ) from error
    return Latest(run_id, _time(finished_at))


def _time(text: object) -> datetime | None:
    """Parses a time with its zone; None if it is none, so that any run is later."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if when.tzinfo is None else when


def should_replace(latest: Latest, finished_at: str, *, is_retry: bool, now: datetime) -> bool:
    """Whether a run that has finished becomes the latest one.

    Args:
        latest: the one named so far.
        finished_at: time of the finished run.
        is_retry: it finished at an earlier try, perhaps long ago.
        now: the current time. A latest run of a later time was written by a clock that is ahead; whatever
            finishes now is newer.
    """
    if latest.finished_at is None or latest.finished_at <= datetime.fromisoformat(finished_at):
        return True
    return not is_retry and latest.finished_at > now

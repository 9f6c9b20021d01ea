"""Keeps two syncs from writing to one folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from beam_jobs.errors import UsageError

_NAME = ".beam_jobs_sync.lock"


def locked(folder: Path, where: str) -> int:
    """Creates a folder, and locks it until the process ends or closes the file.

    Args:
        folder: local; its parent exists.
        where: what it is called in messages.

    Returns:
        The descriptor of the file, to be closed.

    Raises:
        UsageError: it cannot be created or written, or it is locked.
    """
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / _NAME, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise UsageError(f"{where} cannot be written: {error}. Nothing was written.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UsageError(f"Another sync is writing to {folder}. Wait for it. Nothing was written.") from error
    return lock

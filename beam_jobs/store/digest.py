"""``check_digest``: a file has the bytes that were recorded of it."""

from __future__ import annotations

from beam_jobs.errors import JobError
from beam_jobs.store import filesystem

CHANGED_AFTERWARDS = (
    "it was changed after the run was written. Check the run: python -m beam_jobs.runs RUN validate"
)


def check_digest(path: str, sha256: str, cause: str = CHANGED_AFTERWARDS) -> None:
    """Reads a file and compares its digest.

    Args:
        path: the file.
        sha256: its recorded digest, 64 hexadecimal digits.
        cause: why it may differ, and what to do then; the end of the message.

    Raises:
        JobError: it is missing, or its digest differs.
    """
    try:
        found = filesystem.sha256_of(path)
    except FileNotFoundError:
        found = "no file"
    if found != sha256:
        raise JobError(f"{path} should have the sha256 {sha256} but has {found}: {cause}")

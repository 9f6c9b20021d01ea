"""Rejects input patterns that match the output of earlier runs by accident."""

from __future__ import annotations

import os
from collections.abc import Callable

from beam_jobs.errors import UsageError
from beam_jobs.store.manifest import (
    CHANGES,
    CLASSES,
    DEAD_LETTERS,
    EMBEDDINGS,
    FAILED_NAME,
    LATEST_NAME,
    MANIFEST_NAME,
    REPORT_NAME,
    STAGING_DIR,
    WINDOW_CHANGES,
)

_ENTRIES = (
    *(EMBEDDINGS, CLASSES, DEAD_LETTERS, CHANGES, WINDOW_CHANGES, STAGING_DIR),
    *(MANIFEST_NAME, FAILED_NAME, REPORT_NAME),
)


def refuse_own_output(output: str) -> Callable[[str, str], None]:
    """Returns a check that no pattern reaches into a run below ``output``; one that names the run may.

    It takes a file's path and what its pattern leaves open of it.

    Raises:
        UsageError: by the check: the file belongs to a run, and the fixed part of its pattern does not lead
            into that run.
    """
    root = f"{_real(output)}/"

    def check(path: str, relative: str) -> None:
        real = _real(path)
        run_id, _, below = real.removeprefix(root).partition("/")
        if not real.startswith(root) or (below.partition("/")[0] not in _ENTRIES and run_id != LATEST_NAME):
            return
        fixed = _real(path.removesuffix(relative))
        if not f"{fixed}/".startswith(f"{root}{run_id}/"):
            raise UsageError(
                f"--input matches {path}, which an earlier run wrote below --output {output}: its content "
                "would be read as documents. Choose a pattern or an --output that keeps them apart. To read "
                f"a run on purpose, name its folder in the pattern: {root}{run_id}/…"
            )

    return check


def _real(path: str) -> str:
    """Returns a path without links and trailing slashes, so that two ways to a folder are one."""
    return path.rstrip("/") if "://" in path else os.path.realpath(path)
